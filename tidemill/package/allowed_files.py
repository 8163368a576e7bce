"""A package is a closed set: graphs, tensors, tables and words. Nothing in it can run."""

import json
import pickletools
from pathlib import Path

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
TEXT_HEAD = 1 << 20


def strange(path: Path, name: str) -> str | None:
    """What is wrong with a file of a package, by its name and by its content; None where nothing is."""
    if name == SIGNATURE:
        return None
    if path.is_symlink():
        return "is a link"
    if not name.endswith(ALLOWED):
        return f"is none of {', '.join(ALLOWED)}"
    with path.open("rb") as file:
        head = file.read(TEXT_HEAD)
    if pickled(head, whole=len(head) < TEXT_HEAD):
        return "is a pickle"
    try:
        CHECKS[path.suffix](path, head)
    except (ValueError, KeyError, OSError, UnicodeDecodeError) as error:
        return f"is not {path.suffix[1:]} inside ({type(error).__name__})"
    return None


def pickled(head: bytes, whole: bool) -> bool:
    """Whether bytes are a pickle: by the mark of protocol 2 and later, or by opcodes of older ones that load or call something."""
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return True
    if not whole:
        return False
    calls = False
    try:
        for opcode, _, at in pickletools.genops(head):
            calls = calls or opcode.name in RUNS
            if opcode.name == "STOP":
                return calls and at is not None
    except Exception:
        # The parser fails in many ways on what is no pickle; a call it had read by then counts.
        return False
    return False


def _onnx(path: Path, head: bytes) -> None:
    # A ModelProto begins with its ir_version: field 1, a varint.
    if head[:1] != b"\x08":
        raise ValueError(path.name)


def _json(path: Path, head: bytes) -> None:
    json.loads(path.read_text("utf-8"))


def _words(path: Path, head: bytes) -> None:
    if "\x00" in path.read_text("utf-8"):
        raise ValueError(path.name)


def _safetensors(path: Path, head: bytes) -> None:
    size = int.from_bytes(head[:8], "little")
    if not 2 <= size <= 100_000_000:
        raise ValueError(path.name)
    with path.open("rb") as file:
        file.seek(8)
        json.loads(file.read(size))


def _npz(path: Path, head: bytes) -> None:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            arrays[name]  # raises for an array of objects, which is a pickle


CHECKS = {
    ".onnx": _onnx,
    ".json": _json,
    ".md": _words,
    ".txt": _words,
    ".safetensors": _safetensors,
    ".npz": _npz,
}
