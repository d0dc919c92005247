"""The configuration file: `values` it gives, `grammar` it is written in, `files` it lies in, `kept` for the next run.

Importing this is cheap: what a file is parsed with is imported when one is parsed.
"""

from .files import find, keep, load, parse
from .values import ChannelConfig, Config, Deletion, MaxDelete, Secret, StoreConfig, Where

__all__ = [
    "ChannelConfig", "Config", "Deletion", "MaxDelete", "Secret", "StoreConfig", "Where", "find", "keep", "load",
    "parse",
]  # fmt: skip
