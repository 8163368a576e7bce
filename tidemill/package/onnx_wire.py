"""A graph's file read as protobuf, to its end, without the library that would load it.

Fields are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto,
FunctionProto). Every byte must belong to a field that ModelProto has, and no tensor may lie in
another file.
"""

from typing import BinaryIO

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES}
MODEL |= {14: BYTES, 20: BYTES, 25: BYTES, 26: BYTES}
# The messages below a message that can hold a tensor, by field number.
MODEL_INNER = {7: "graph", 25: "function"}
INNER = {
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
EXTERNAL = (13, 14)  # of a tensor: external_data, and data_location where it is not DEFAULT
DEEPEST = 64


def check(file: BinaryIO, size: int) -> None:
    """Raise `ValueError` where the file is not a whole model, or names another file."""
    first = True
    while file.tell() < size:
        number, kind = _tag(file)
        if first and number != 1:
            raise ValueError("it does not begin with its version")
        first = False
        if MODEL.get(number) != kind:
            raise ValueError(f"a model has no field {number} of this kind")
        end = _skip_to(file, kind, size)
        if inner := MODEL_INNER.get(number):
            _walk(file, end, inner, 0)
        file.seek(end)
    if first:
        raise ValueError("it is empty")


def _walk(file: BinaryIO, end: int, message: str, depth: int) -> None:
    """Look for tensors that lie elsewhere in a message that ends at `end`."""
    if depth > DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    while file.tell() < end:
        number, kind = _tag(file)
        if message == "tensor" and number in EXTERNAL:
            if kind == BYTES or _varint(file) != 0:
                raise ValueError("a tensor of it lies in another file")
            continue
        after = _skip_to(file, kind, end)
        if kind == BYTES and (inner := INNER[message].get(number)):
            _walk(file, after, inner, depth + 1)
        file.seek(after)


def _skip_to(file: BinaryIO, kind: int, end: int) -> int:
    """Where the field whose tag was just read ends; for bytes, the file is put at their begin."""
    if kind == VARINT:
        _varint(file)
        after = file.tell()
    elif kind == BYTES:
        length = _varint(file)
        after = file.tell() + length
    elif kind in (FIXED64, FIXED32):
        after = file.tell() + (8 if kind == FIXED64 else 4)
    else:
        raise ValueError(f"wire type {kind} is unknown")
    if after > end:
        raise ValueError("it is cut off")
    return after


def _tag(file: BinaryIO) -> tuple[int, int]:
    value = _varint(file)
    return value >> 3, value & 7


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return value
    raise ValueError("a number of it has no end")
