"""Frames of pandas that were pickled, read without running what a pickle may run.

A pickle names functions and calls them. Here each name that a frame of plain columns needs stands
for something of ours, which checks what it is given; any other ends the reading. Neither pandas nor
numpy is handed what a pickle says of types and shapes: a type that hides that it holds objects
turns bytes into addresses of memory.
"""

import io
import lzma
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.clean.part import Unreadable

XZ = b"\xfd7zXZ\x00"
MOST_MB = 512  # unpacked
MOST_CELLS = 100_000_000
KINDS = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,7}|O8?|M8")


class _Closed:
    """What a pickle may make and not change: no state is set on a class or on a function."""

    def __setstate__(self, state: Any) -> None:
        raise Unreadable("a pickle that changes what no table changes")


class _Called(_Closed):
    """A function as a pickle may call it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


class _Type(_Closed):
    """A type of numpy: its code, its order of bytes and, of dates, its unit."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not KINDS.fullmatch(code):
            raise Unreadable("a pickle with a type that no table needs")
        self.code = code
        self.order: Literal["=", "<", ">"] = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.order = state[1]
        if self.code == "M8":
            unit, number = state[8][1][:2]
            self.code = f"M8[{int(number)}{bytes(unit).decode('ascii')}]"

    def __call__(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)


class _Array(_Closed):
    """An array; its values come with its state, or at once where bytes are given."""

    def __init__(self, *_: Any) -> None:
        self.values: np.ndarray = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, content = state
        self.fill(shape, kind, content, "F" if by_column else "C")

    def fill(self, shape: Sequence[int], kind: _Type, content: Any, order: Any) -> None:
        count = math.prod(int(length) for length in shape)
        if not 0 <= count <= MOST_CELLS or not isinstance(kind, _Type):
            raise Unreadable(f"a pickle with an array of more than {MOST_CELLS:,} cells")
        if kind.code.startswith("O"):
            if not isinstance(content, list) or len(content) != count:
                raise Unreadable("a pickle with an array of other cells than it says")
            flat = np.empty(count, dtype=object)
            flat[:] = content
        else:
            flat = np.frombuffer(content, dtype=kind(), count=count)
        self.values = flat.reshape(shape, order=order)


def _of_bytes(content: Any, kind: _Type, shape: Any, order: Any, axes: Any = None) -> _Array:
    """What numpy's `_frombuffer` gives."""
    array = _Array()
    array.fill(shape, kind, content, "C" if order == "K" else order)
    if order == "K" and axes is not None:
        array.values = array.values.transpose(axes)
    return array


def _scalar(kind: _Type, content: Any) -> Any:
    return _of_bytes(content, kind, (1,), "C").values.tolist()[0]


def _as_bytes(text: Any, encoding: Any = "") -> bytes:
    """How protocol 2 writes bytes: as the text that they are in Latin-1."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Unreadable("a pickle that encodes what no table has")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes no bytes at all."""
    return b""


@dataclass
class _Labels(_Closed):
    """An index: of names, or of numbers from one to another."""

    labels: Sequence[Any]


def _labels(_: Any, state: dict[str, Any]) -> _Labels:
    """What pandas' `_new_Index` gives."""
    if "data" in state:
        return _Labels(state["data"].values.tolist())
    return _Labels(range(state["start"], state["stop"], state["step"]))


@dataclass
class _Block(_Closed):
    """Columns of one type: `values` (columns, rows), and the place of each column."""

    values: np.ndarray
    places: Sequence[int]


def _block(values: _Array, places: Any, *_: Any) -> _Block:
    """What pandas' `_unpickle_block` gives."""
    cells = values.values
    if isinstance(places, slice):
        stop, step = places.stop, places.step or 1
        return _Block(cells, range(places.start, stop, step))
    return _Block(cells, places.values.tolist() if isinstance(places, _Array) else list(places))


class _Manager(_Closed):
    """The blocks of a frame with the labels of its columns and rows."""

    def __init__(
        self, blocks: Sequence[_Block] = (), axes: Sequence[_Labels] = (), *_: Any
    ) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        """As pandas wrote it before 1.3."""
        kept = state[3]["0.14.1"]
        self.axes = kept["axes"]
        self.blocks = [_block(one["values"], one["mgr_locs"]) for one in kept["blocks"]]

    def columns(self) -> tuple[list[str], list[list[Any]]]:
        names, rows = self.axes[0].labels, len(self.axes[1].labels)
        by_place: dict[int, list[Any]] = {}
        for block in self.blocks:
            for place, cells in zip(block.places, block.values, strict=True):
                by_place[place] = _cells(cells)
        if sorted(by_place) != list(range(len(names))):
            raise Unreadable("a pickle of a table whose columns are not all there")
        columns = [by_place[place] for place in range(len(names))]
        if any(len(cells) != rows for cells in columns):
            raise Unreadable("a pickle of a table whose columns differ in length")
        return [_name(label) for label in names], columns


def _cells(values: np.ndarray) -> list[Any]:
    if values.dtype.kind == "M":
        values = values.astype("M8[us]")  # which Python's dates have
    cells: list[Any] = values.tolist()
    return cells


def _name(label: Any) -> str:
    if not isinstance(label, str | int | float | None):
        raise Unreadable("a pickle of a table with a column whose name is no text")
    return str(label)


class _Frame(_Closed):
    """A frame."""

    manager: _Manager

    def __setstate__(self, state: Any) -> None:
        manager = state
        if isinstance(state, dict):
            manager = state.get("_mgr", state.get("_data"))
        if not isinstance(manager, _Manager):
            raise Unreadable("a pickle of a table without columns")
        self.manager = manager


# The names as older and newer versions of pandas and numpy write them.
NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas", "DataFrame"): _Frame,
    ("pandas", "Index"): _Labels,
    ("pandas", "RangeIndex"): _Labels,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas.core.indexes.base", "_new_Index"): _Called(_labels),
    ("pandas.core.indexes.base", "Index"): _Labels,
    ("pandas.core.indexes.range", "RangeIndex"): _Labels,
    ("pandas._libs.internals", "_unpickle_block"): _Called(_block),
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Called(_of_bytes),
    ("numpy._core.numeric", "_frombuffer"): _Called(_of_bytes),
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Called(_scalar),
    ("numpy._core.multiarray", "scalar"): _Called(_scalar),
    ("builtins", "slice"): _Called(slice),
    # of protocol 2
    ("__builtin__", "slice"): _Called(slice),
    ("__builtin__", "bytes"): _Called(_no_bytes),
    ("_codecs", "encode"): _Called(_as_bytes),
}


class _Frames(pickle.Unpickler):
    """Knows the names above and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise Unreadable(f"a pickle that names {module}.{name}, which no table needs")
        return NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Unreadable("a pickle that names something outside itself")


def table(body: bytes) -> tuple[list[str], Iterator[list[Any]]]:
    """The columns and the rows of a pickled frame. Raises Unreadable."""
    content = _unpacked(body)
    _check_opcodes(content)
    try:
        frame = _Frames(io.BytesIO(content)).load()
        if not isinstance(frame, _Frame):
            raise Unreadable(f"a pickled {_shown(frame)}, no table")
        names, columns = frame.manager.columns()
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # damaged pickles fail in a dozen ways
        raise Unreadable(f"not a pickled table ({type(error).__name__})") from error
    return names, map(list, zip(*columns, strict=True))


def _shown(value: Any) -> str:
    return {_Array: "array", _Labels: "index", _Manager: "manager"}.get(
        type(value), type(value).__name__
    )


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
    """Refuse a pickle that asks the registry of extensions: it names without naming.

    And one that remembers something at a place beyond all it has: room is made for all before it.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("EXT1", "EXT2", "EXT4"):
                raise Unreadable("a pickle that names an extension")
            remembers = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            if remembers and int(argument or 0) > len(content):
                raise Unreadable("a pickle that remembers more than it has")
    except (ValueError, IndexError) as error:
        raise Unreadable("not a pickle") from error
