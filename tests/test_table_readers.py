"""Tables from outside: whatever the bytes are, the readers give rows or one line of refusal."""

import datetime
import io
import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean.part import Unreadable
from tasks.clean.selectors import cut
from tidemill.engines.config.schema import Rule

PLAIN = pd.DataFrame({"id": [1, 2, 3], "size": [0.5, None, 2.0], "large": [True, False, True]})
NAMED = PLAIN.assign(ward=pd.Series(["a", "b", None], dtype=object)).set_axis(
    pd.Index(["id", "size", "large", "ward"], dtype=object), axis=1
)
FRAMES = [
    pickle.dumps(frame, protocol)
    for frame in (NAMED, NAMED[["id"]], NAMED.iloc[:0], NAMED[["ward", "id"]])
    for protocol in (2, 4, 5)
]


def read(kind: str, body: bytes) -> list[dict[str, Any]]:
    rule = Rule.model_validate({"name": "t", "kind": kind})
    return [json.loads(part.payload or b"") for part in cut(rule, "t", body)]


def refused(kind: str, body: bytes) -> str:
    with pytest.raises(Unreadable) as refusal:
        read(kind, body)
    words = str(refusal.value)
    assert words and "\n" not in words
    return words


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickled_frame_has_the_rows_that_pandas_gives(protocol: int) -> None:
    for frame in (NAMED, NAMED[["ward", "id"]], NAMED.iloc[1:], NAMED[["id"]].T.T):
        rows = read("frame", pickle.dumps(frame, protocol))
        assert rows == json.loads(frame.to_json(orient="records"))
    swapped = NAMED[["id"]].astype(">i8")
    assert read("frame", pickle.dumps(swapped, protocol)) == [{"id": 1}, {"id": 2}, {"id": 3}]


class Made:
    """Pickled, it is the call of a function, and a state that is set on what that gives."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


ADDRESSES = struct.pack("<QQ", 0x4141414141, 0x4242424242)
# numpy takes from a pickle whether a type holds objects: here one that does, and says not.
OBJECTS = Made(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))
FIELDS = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
FIELD = Made(np.dtype, "V8", False, True, state=FIELDS)


def of_frame(values: Any) -> bytes:
    return pickle.dumps(Made(pd.DataFrame, values))


def harmful() -> dict[str, bytes]:
    from numpy._core.multiarray import _reconstruct, scalar
    from numpy._core.numeric import _frombuffer
    from pandas._libs.internals import _unpickle_block
    from pandas.core.internals.managers import BlockManager

    state = (1, (2, 1), OBJECTS, False, ADDRESSES)
    array = Made(_reconstruct, np.ndarray, (0,), b"b", state=state)
    block = Made(_unpickle_block, np.ones((1, 3)), slice(10**6, 10**6 + 1, 1), 2)
    manager = Made(BlockManager, (block,), [pd.Index([0]), pd.RangeIndex(3)], False)
    nested: list[Any] = []
    for _ in range(60):
        nested = [nested, nested]
    cells = np.array([1, 1, 1], object)
    cells[0] = nested  # numpy would look through all of it for a shape
    labels = NAMED[["ward"]].assign(ward=pd.Series(cells, NAMED.index, object))
    return {
        "addresses by bytes": of_frame(Made(_frombuffer, ADDRESSES, OBJECTS, (2, 1), "C")),
        "addresses by state": of_frame(array),
        "addresses by a buffer": of_frame(Made(np.ndarray, (2, 1), OBJECTS, ADDRESSES)),
        "addresses by a scalar": of_frame([[Made(scalar, OBJECTS, ADDRESSES[:8])]]),
        "addresses by fields": of_frame(Made(_frombuffer, ADDRESSES, FIELD, (2,), "C")),
        "places beyond the table": pickle.dumps(Made(pd.DataFrame, manager)),
        "a billion rows of one byte": of_frame(Made(np.ndarray, (10**9, 1), "b", b"x", 0, (0, 0))),
        "a changed class": pickle.dumps(
            Made(pd.DataFrame, state=(None, {"__init__": pd.Index, "_mgr": 5}))
        ),
        "a changed function": b"\x80\x04cpandas._libs.internals\n_unpickle_block\n"
        b"N}\x8c\x0c__defaults__N\x85s\x86b.",
        "a cell of 2^60 lists": pickle.dumps(labels),
        "memory beyond all": b"\x80\x04Nr" + struct.pack("<I", 2**31) + b".",
        "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",
        "many bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"a.",
        "getattr": b"\x80\x04cbuiltins\ngetattr\n.",
        "a dotted name": b"\x80\x04\x8c\x06pandas\x8c\x10DataFrame.to_csv\x93.",
        "a persistent id": b"\x80\x04X\x01\x00\x00\x00aQ.",
        "an extension": b"\x80\x04\x82\x01.",
        "half a surrogate": pickle.dumps(
            NAMED.assign(ward=pd.Series(["\ud800"] * 3, NAMED.index, object))
        ),
        "a number of 5,000 digits": pickle.dumps(
            NAMED.assign(ward=pd.Series([10**5000] * 3, NAMED.index, object))
        ),
    }


@pytest.mark.parametrize("name", list(harmful()))
def test_a_harmful_pickle_is_refused_in_a_line(name: str) -> None:
    """In this process: had it read the addresses, it would not be here any more."""
    assert refused("frame", harmful()[name])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_frame_is_rows_or_a_refusal(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(FRAMES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[place] = data.draw(st.integers(0, 255))
        else:
            del body[place : place + data.draw(st.integers(1, 9))]
        if not body:
            break
    try:
        read("frame", bytes(body))
    except Unreadable as error:
        assert "\n" not in str(error)


TEXTS = st.text(max_size=12) | st.sampled_from(["\ufeff", "sep=;\n", '"', "\r", "\x00", ",\n", "a"])


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=60) | st.lists(TEXTS, max_size=9).map("".join).map(str.encode))
def test_any_bytes_are_rows_or_a_refusal(body: bytes) -> None:
    for kind in ("rows", "frame", "jsonl"):
        try:
            text = {"text": "a"} if kind == "jsonl" else {}
            rule = Rule.model_validate({"name": "t", "kind": kind, **text})
            parts = list(cut(rule, "t", body))
            assert all(kind != "rows" or part.payload for part in parts)
        except Unreadable as error:
            assert "\n" not in str(error)


def parquet(column: Any, name: str = "a") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({name: column, "b": pa.nulls(len(column))}), out)
    return out.getvalue()


def test_cells_of_parquet_are_numbers_texts_or_a_refusal_that_names_the_column() -> None:
    import pyarrow as pa

    far = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    cells = [
        (pa.array([far], pa.timestamp("ns", "Europe/Berlin")), "2020-01-01T01:00:00+01:00"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([1], pa.decimal128(5, 2)), "1.00"),
        (pa.array([b"text"]), "text"),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([float("inf")]), None),
    ]
    for column, expected in cells:
        assert read("rows", parquet(column)) == [{"a": expected, "b": None}]
    assert "column a is a list" in refused("rows", parquet(pa.array([[1]])))
    assert "column a is a dict" in refused("rows", parquet(pa.array([{"x": 1}])))
    assert "column a is bytes" in refused("rows", parquet(pa.array([b"\xff"])))
    assert "parquet" in refused("rows", parquet(pa.array([10**12], pa.timestamp("s"))))
    assert "parquet" in refused("rows", parquet(pa.array(["x"] * 99))[:-30])
    rule = Rule(name="t", kind="rows", columns=("b",))
    assert [part.payload for part in cut(rule, "t", parquet(pa.array([[1]])))] == [b'{"b": null}']
