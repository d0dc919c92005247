"""The configuration file: `values` it gives, `grammar` it is written in, `files` it lies in.

Importing this is cheap: pyparsing is imported when a file is parsed.
"""

from .files import dump, find, load
from .grammar import parse
from .values import ChannelConfig, Config, Deletion, MaxDelete, Secret, StoreConfig, Where

__all__ = [
    "ChannelConfig", "Config", "Deletion", "MaxDelete", "Secret", "StoreConfig", "Where", "dump", "find", "load",
    "parse",
]  # fmt: skip
