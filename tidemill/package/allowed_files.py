"""A package is a closed set: graphs, tensors, tables and words. Nothing in it can run.

Every file is read to its end and has to be what its name says, members of archives too: a part
that its form does not account for is refused, since anything could lie there.
"""

import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tidemill.package import onnx_wire

SIGNATURE = "model.sig"
ALLOWED = (".onnx", ".json", ".md", ".txt", ".safetensors", ".npz")
RUNS = {
    "GLOBAL",
    "STACK_GLOBAL",
    "INST",
    "REDUCE",
    "OBJ",
    "NEWOBJ",
    "NEWOBJ_EX",
    "BUILD",
    "EXT1",
    "EXT2",
    "EXT4",
}
CHUNK = 1 << 20
LOCAL_HEADER = 30  # bytes of a zip member's header before its name (APPNOTE 4.3.7)
END_RECORD = 22  # bytes of its last record (4.3.16)
ZIP64 = 0xFFFFFFFF  # what stands there where the archive is larger than that
LONGEST_HEADER = 100_000_000  # of safetensors, by its format


def strange(path: Path, name: str) -> str | None:
    """What is wrong with a file of a package, by name and content; None where nothing is."""
    if path.is_symlink():
        return "is a link"
    if not path.is_file():
        return "is no file"
    suffix = ".json" if name == SIGNATURE else path.suffix
    if suffix not in ALLOWED:
        return f"is none of {', '.join(ALLOWED)}"
    try:
        CHECKS[suffix](path)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        if pickled(path):
            return "is a pickle"
        return f"is not {suffix[1:]} inside ({error or type(error).__name__})"
    if suffix in TEXTS and pickled(path):
        return "is a pickle"
    return None


def pickled(path: Path) -> bool:
    """Whether a file is a pickle, read as far as its parser gets.

    By the mark of protocol 2 and later, or by opcodes of older ones that load or call something.
    """
    with path.open("rb") as file:
        head = file.read(2)
        if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
            return True
        file.seek(0)
        return _calls(file)


def _calls(file: BinaryIO) -> bool:
    calls = False
    try:
        for opcode, _, _ in pickletools.genops(file):
            calls = calls or opcode.name in RUNS
            if opcode.name == "STOP":
                return calls
    except Exception:
        # The parser fails in many ways on what is no pickle.
        return False
    return False


def _json(path: Path) -> None:
    json.loads(path.read_text("utf-8"))


def _words(path: Path) -> None:
    if "\x00" in path.read_text("utf-8"):
        raise ValueError("it holds a zero byte")


def _onnx(path: Path) -> None:
    with path.open("rb") as file:
        onnx_wire.check(file, path.stat().st_size)


def _safetensors(path: Path) -> None:
    """The header names every byte of the tensors, one after another, and nothing is left over."""
    length = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(LONGEST_HEADER, length - 8):
            raise ValueError("its header has no length")
        header = json.loads(file.read(size).decode("utf-8"))
    header.pop("__metadata__", None)
    spans = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
    end = 0
    for first, last in spans:
        if first != end or last < first:
            raise ValueError("its tensors leave a gap")
        end = last
    if 8 + size + end != length:
        raise ValueError("bytes are left over")


def _npz(path: Path) -> None:
    """Arrays alone, each whole, one after another from the first byte on."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise ValueError("two members have one name")
        end = 0
        for item in sorted(archive.infolist(), key=lambda member: member.header_offset):
            if item.header_offset != end:
                raise ValueError("bytes lie between its members")
            end = _end_of(raw, item)
            with archive.open(item) as member:
                _array(item.filename, member, item.file_size)
        if end != archive.start_dir:
            raise ValueError("bytes lie between its members")
        _check_end(raw, path.stat().st_size)


def _check_end(raw: BinaryIO, length: int) -> None:
    """The archive's last record ends the file, and the list of members ends where it begins."""
    raw.seek(length - END_RECORD)
    record = raw.read(END_RECORD)
    size, offset = (int.from_bytes(record[at : at + 4], "little") for at in (12, 16))
    if not record.startswith(b"PK\x05\x06") or record[20:22] != b"\0\0":
        raise ValueError("bytes follow its end")
    if offset != ZIP64 and offset + size != length - END_RECORD:
        raise ValueError("bytes lie before its end")


def _end_of(raw: BinaryIO, item: zipfile.ZipInfo) -> int:
    """Where a member ends, by its own header."""
    if item.flag_bits & 0x8:
        raise ValueError(f"{item.filename} has its sizes behind it")
    raw.seek(item.header_offset)
    header = raw.read(LOCAL_HEADER)
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return item.header_offset + LOCAL_HEADER + name + extra + item.compress_size


def _array(name: str, member: object, size: int) -> None:
    """A member that is an array of numbers or letters, and nothing after it. Read to its end."""
    import numpy as np
    from numpy.lib import format as npy

    file: BinaryIO = member  # type: ignore[assignment]
    if not name.endswith(".npy"):
        raise ValueError(f"{name} is no array")
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is an array of another format")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of objects, which is a pickle")
    wanted = file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    for _ in _chunks(file):  # to the end, so that the archive checks the member's sum
        pass
    if wanted != size:
        raise ValueError(f"{name} is not as long as its array")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


TEXTS = (".json", ".md", ".txt")
CHECKS = {
    ".onnx": _onnx,
    ".json": _json,
    ".md": _words,
    ".txt": _words,
    ".safetensors": _safetensors,
    ".npz": _npz,
}
