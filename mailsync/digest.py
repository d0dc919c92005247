"""A digest that costs nothing to import: hashlib loads all of OpenSSL, which takes a run 3 ms."""

try:
    from _blake2 import blake2b
except ImportError:  # a Python that was built with OpenSSL's alone
    from hashlib import blake2b

__all__ = ["blake2b"]
