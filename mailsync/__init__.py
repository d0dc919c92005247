"""Keep two stores of mail equal."""

__version__ = "6.0.0"
