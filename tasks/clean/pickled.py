"""Frames of pandas that were pickled, read without running what a pickle may run.

A pickle names functions and calls them. Here the names that a frame of plain columns needs are the
only ones that there are: any other ends the reading, before anything is called.
"""

import importlib
import io
import lzma
import pickle
import pickletools
import warnings
from collections.abc import Iterator
from typing import Any

from tasks.clean.part import Unreadable

XZ = b"\xfd7zXZ\x00"
MOST_MB = 512  # unpacked
# The names as older and newer versions of pandas and numpy write them, and where they are today.
NAMES = {
    ("pandas.core.frame", "DataFrame"): "pandas",
    ("pandas", "DataFrame"): "pandas",
    ("pandas", "Index"): "pandas",
    ("pandas", "RangeIndex"): "pandas",
    ("pandas.core.internals.managers", "BlockManager"): "pandas.core.internals.managers",
    ("pandas.core.indexes.base", "_new_Index"): "pandas.core.indexes.base",
    ("pandas.core.indexes.base", "Index"): "pandas",
    ("pandas.core.indexes.range", "RangeIndex"): "pandas",
    ("pandas._libs.internals", "_unpickle_block"): "pandas._libs.internals",
    ("numpy", "dtype"): "numpy",
    ("numpy", "ndarray"): "numpy",
    ("numpy.core.numeric", "_frombuffer"): "numpy._core.numeric",
    ("numpy._core.numeric", "_frombuffer"): "numpy._core.numeric",
    ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy._core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy.core.multiarray", "scalar"): "numpy._core.multiarray",
    ("numpy._core.multiarray", "scalar"): "numpy._core.multiarray",
    ("builtins", "slice"): "builtins",
}


class _Frames(pickle.Unpickler):
    """Knows the names above and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise Unreadable(f"a pickle that names {module}.{name}, which no table needs")
        return getattr(importlib.import_module(NAMES[module, name]), name)

    def persistent_load(self, pid: Any) -> Any:
        raise Unreadable("a pickle that names something outside itself")


def table(body: bytes) -> tuple[list[str], Iterator[list[Any]]]:
    """The columns and the rows of a pickled frame. Raises Unreadable."""
    import pandas as pd

    content = _unpacked(body)
    _check_opcodes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = _Frames(io.BytesIO(content)).load()
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # damaged pickles fail in a dozen ways
        raise Unreadable(f"not a pickled table ({type(error).__name__})") from error
    if not isinstance(frame, pd.DataFrame):
        raise Unreadable(f"a pickled {type(frame).__name__}, no table")
    columns = [frame.iloc[:, at].tolist() for at in range(frame.shape[1])]
    return list(map(str, frame.columns)), map(list, zip(*columns, strict=True))


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(XZ):
        return body
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        content = unpacker.decompress(body, MOST_MB * 2**20)
    except lzma.LZMAError as error:
        raise Unreadable("not a whole xz file") from error
    if not unpacker.eof:
        raise Unreadable(f"cut off, or more than {MOST_MB} MB once it is unpacked")
    return content


def _check_opcodes(content: bytes) -> None:
    """Refuse a pickle that asks the registry of extensions: it names without naming."""
    try:
        for opcode, _, _ in pickletools.genops(content):
            if opcode.name in ("EXT1", "EXT2", "EXT4"):
                raise Unreadable("a pickle that names an extension")
    except (ValueError, IndexError) as error:
        raise Unreadable("not a pickle") from error
