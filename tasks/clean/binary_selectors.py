"""Selectors of what is no text: pictures, sounds, and tables of rows in time.

Also data sets of pictures in one file. Their parts carry a payload: the picture's own bytes, a PNG,
a FLAC of one channel, or the rows of a series as CSV.
"""

import csv
import gzip
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from tasks.clean.part import Part, Unreadable
from tidemill.engines.config.schema import Rule
from tidemill.kit import pictures, sounds

MOST_MB = 512  # of a member once it is unpacked
# Of a table or a series; a data set of more pictures than that is no one file.
MOST_ROWS = 1_000_000
MOST_CELL = 10_000_000  # characters


def unpacked(body: bytes) -> bytes:
    """A gzip member's content, bounded; other bytes as they are."""
    if body[:2] != b"\x1f\x8b":
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            content = file.read(MOST_MB * 2**20 + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable("not a whole gzip file") from error
    if len(content) > MOST_MB * 2**20:
        raise Unreadable(f"more than {MOST_MB} MB once it is unpacked")
    return content


def picture(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """One picture a page, kept as it came; its label is named in the address."""
    try:
        pictures.opened(body)
    except pictures.UnfitPicture as error:
        raise Unreadable(str(error)) from error
    found = re.search(rule.label, uri) if rule.label else None
    yield Part(
        rule.name, "", "", attributes={"label": found.group(1)} if found else {}, payload=body
    )


def audio(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """One sound a page, as one channel of 16 bits.

    Its label and its language are named in the address.
    """
    try:
        samples, rate = sounds.mono(*sounds.opened(body, rule.most_seconds), rule.rate)
    except sounds.UnfitSound as error:
        raise Unreadable(str(error)) from error
    label = re.search(rule.label, uri) if rule.label else None
    language = None if rule.language == "''" else re.search(rule.language, uri)
    told = {
        "rate": str(rate),
        "seconds": f"{len(samples) / rate:.3f}",
        **({"label": label.group(1)} if label else {}),
    }
    yield Part(
        rule.name,
        "",
        "",
        language.group(1) if language else "",
        attributes=told,
        payload=sounds.flac(samples, rate),
        media="audio/flac",
    )


def pixels(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """Rows of a table without a head: a picture's pixels (0 to 255), then its label."""
    height, width = rule.size
    lines = unpacked(body).split()
    if len(lines) > MOST_ROWS:
        raise Unreadable(f"more than {MOST_ROWS:,} rows")
    for number, line in enumerate(lines, 1):
        values = line.split(b",")
        if len(values) != height * width + 1:
            raise Unreadable(
                f"row {number} has {len(values)} values, {height} x {width} pixels and a label "
                f"are {height * width + 1}"
            )
        try:
            row = np.array(values[:-1], dtype=np.float64)
        except ValueError as error:
            raise Unreadable(f"row {number} is not of numbers") from error
        if not ((row >= 0) & (row <= 255)).all():
            raise Unreadable(f"row {number} has a pixel outside 0 to 255")
        yield _picture(
            rule, number, row.reshape(height, width), values[-1].decode("ascii", "replace")
        )


def idx(rule: Rule, uri: str, body: bytes, beside: Callable[[str], bytes | None]) -> Iterator[Part]:
    """The IDX format (LeCun's MNIST page): magic, sizes, bytes.

    Three dimensions are pictures, one is labels.
    """
    images = array(unpacked(body))
    if images.ndim != 3:
        return  # the labels' own file
    labels = None
    if rule.labels is not None:
        other = uri.replace(*rule.labels)
        there = beside(other) if other != uri else None
        labels = array(unpacked(there)) if there is not None else None
        if labels is None or labels.shape != images.shape[:1]:
            raise Unreadable(
                f"{other.rsplit('#', 1)[-1]} has no label for each of {len(images):,} pictures"
            )
    found = re.search(rule.original, uri) if rule.original else None
    for number, one in enumerate(images):
        yield _picture(
            rule,
            number,
            one,
            "" if labels is None else str(int(labels[number])),
            found.group(1) if found else "",
        )


def array(body: bytes) -> np.ndarray:
    """An IDX file of unsigned bytes."""
    if len(body) < 4 or body[:2] != b"\0\0" or body[2] != 8 or not 1 <= body[3] <= 4:
        raise Unreadable("not an IDX file of bytes")
    head = 4 + 4 * body[3]
    if len(body) < head:
        raise Unreadable("an IDX file without its sizes")
    shape = struct.unpack(f">{body[3]}I", body[4:head])
    if int(np.prod([int(size) for size in shape], dtype=object)) != len(body) - head:
        raise Unreadable(
            f"an IDX file of {' x '.join(map(str, shape))} bytes that has {len(body) - head:,}"
        )
    return np.frombuffer(body, dtype=np.uint8, offset=head).reshape(shape)


def _picture(rule: Rule, number: int, pixels: np.ndarray, label: str, original: str = "") -> Part:
    return Part(
        rule.name,
        "",
        "",
        place=f"{rule.name}-{number}",
        known_by="content",
        original=original,
        attributes={"label": label} if label else {},
        payload=pictures.png(pixels),
        media="image/png",
    )


def series(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """Rows of a table with a head, grouped by a column.

    Each group is one document, its rows as CSV in their order.
    """
    csv.field_size_limit(MOST_CELL)
    try:
        rows = csv.reader(io.StringIO(unpacked(body).decode("utf-8-sig")), strict=True)
        head = next(rows, [])
        kept = _kept_columns(rule, head)
        groups = _groups(rule, head, rows, kept)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable("not a CSV table in UTF-8") from error
    for name, values in sorted(groups.items()):
        out = io.StringIO()
        # A series grows, and is the same one: what it is called stays, else how it begins.
        begins = name if rule.group else json.dumps([[head[at] for at in kept], values[0]])
        csv.writer(out, lineterminator="\n").writerows([[head[at] for at in kept], *values])
        yield Part(
            rule.name,
            name,
            "",
            attributes={"rows": str(len(values)), **({rule.group: name} if rule.group else {})},
            payload=out.getvalue().encode(),
            media="text/csv",
            identity=begins,
        )


def _kept_columns(rule: Rule, head: list[str]) -> list[int]:
    """Where the columns are that the rule names; without names all but the group's."""
    wanted = [*rule.columns, *([rule.group] if rule.group else [])]
    missing = [name for name in wanted if name not in head]
    if missing:
        raise Unreadable(f"no column {', '.join(missing)}; it has {', '.join(head)[:80]}")
    return [
        head.index(name)
        for name in rule.columns or tuple(name for name in head if name != rule.group)
    ]


def _groups(
    rule: Rule, head: list[str], rows: Iterator[list[str]], kept: list[int]
) -> dict[str, list[list[str]]]:
    groups: dict[str, list[list[str]]] = {}
    for number, row in enumerate(rows, 2):
        if number > MOST_ROWS + 1:
            raise Unreadable(f"more than {MOST_ROWS:,} rows")
        if len(row) != len(head):
            raise Unreadable(f"line {number} has {len(row)} values, the head has {len(head)}")
        group = row[head.index(rule.group)] if rule.group else ""
        groups.setdefault(group, []).append([row[at] for at in kept])
    return groups
