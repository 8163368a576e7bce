"""What lies in a person's folder or table, and how a source and a recipe read it.

A recipe says in `reads` what it may be brought: pictures, labelled texts or texts with classes (a
folder for each class), texts or series. Everything here looks and writes nothing.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tasks.clean.binary_selectors import MOST_CELL
from tasks.clean.selectors import value_at
from tasks.collect.folder import names
from tidemill.records.archive import MAX_MEMBER_MB
from tidemill.runtime.errors import Refused

TOP = "^[^#]*#([^/]+)/"  # the first folder of a file's address, files:SOURCE#FOLDER/...
PARTS = {"train", "test", "val", "valid", "validation", "dev"}
CLASSED = "texts with classes"
LEAST = 5  # of a class: fewer can be neither learned nor judged
LOOKED = 5  # files of a class that are opened before anything is made
JSON_LINES = (".jsonl", ".ndjson")
SERIES = {
    "date": ("date", "day", "time"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "last"),
    "volume": ("volume", "vol"),
}
ADJUSTED = ("adj close", "adjusted close", "adj_close", "adjusted")
LANGUAGE = ("language", "lang")
GROUP = ("ticker", "symbol", "series", "name", "company")
TEXT = ("text", "sentence", "content", "message", "body", "review", "question")
LABEL = ("label", "language", "lang", "class", "category", "target", "topic", "sentiment")

KEY = ("id", "key", "uuid", "guid")

SHORT_TEXTS = {"min_letters": 2, "max_chars": 20000}  # how a source cleans texts with a label
LONG_TEXTS = {"min_letters": 20, "max_chars": 100000}  # and those that are learned from whole


@dataclass
class SurveyResult:
    """A person's data, as conf/ will say it."""

    source: dict[str, object]  # selector, members, clean
    split: dict[str, object]  # the rule, but for its source
    rows: int  # documents, or days
    told: str  # for people: "120 pictures in 3 folders"
    summary: str
    kinds: list[str] = field(default_factory=list)
    label: dict[str, object] = field(
        default_factory=dict
    )  # options; None takes one of the like's away
    counts: dict[str, int] = field(default_factory=dict)  # of each class
    model: dict[str, object] | None = None  # instead of the like's fields
    gates: dict[str, tuple[float, str]] = field(default_factory=dict)  # other bounds, and why


def survey(reads: str, name: str, path: Path, columns: dict[str, str]) -> SurveyResult:
    """What `path` holds for an application that reads such a thing.

    Refused where it does not fit, with what was looked for.
    """
    found = names(path, "--data")
    if not found:
        raise Refused(f"--data: {path} is empty; put files into it")
    if reads in ("pictures", "labelled texts", CLASSED):
        return _classes(reads, path, found) if path.is_dir() else _rows(reads, name, path, columns)
    if reads == "texts":
        return _texts(name, path, found) if path.is_dir() else _rows(reads, name, path, columns)
    if path.is_dir():
        raise Refused(
            f"--data: {path} is a folder; a series is one CSV file with the columns "
            f"{', '.join(SERIES)}, and one more for its name where there are several"
        )
    return _series(path, columns)


def hashed(rows: int) -> dict[str, object]:
    """A split by hash; of few rows more are for testing, or no verdict could be reached."""
    return {"by": "hash", "column": "doc_id", "valid": 0.1, "test": 0.3 if rows < 1000 else 0.2}


def _classes(reads: str, path: Path, found: list[str]) -> SurveyResult:
    """A folder for each class, whatever lies deeper in it."""
    what, one = ("pictures", "picture") if reads == "pictures" else ("texts", "text")
    classes = _class_folders(path, found, what)
    few = _few({name: len(files) for name, files in classes.items()})
    if few:
        raise Refused(f"--data: a class needs at least {LEAST} {what}: {', '.join(few[:8])}")
    for name, files in classes.items():
        wrong = [why for file in files[:LOOKED] if (why := _unfit(reads, path / file))]
        if len(wrong) == min(LOOKED, len(files)):
            raise Refused(f"--data: {name}/ holds no {one}, {files[0]} is {wrong[0]}")
    return _of_folders(reads, what, {name: len(files) for name, files in classes.items()})


def _class_folders(path: Path, found: list[str], what: str) -> dict[str, list[str]]:
    """Each class's files, by its folder's name. Refused where the folders are no classes."""
    loose = [name for name in found if "/" not in name]
    if loose:
        raise Refused(
            f"--data: {loose[0]} lies in no class's folder; {path} must hold one folder for each "
            f"class, and the {what} in them"
        )
    classes: dict[str, list[str]] = {}
    for name in found:
        classes.setdefault(name.partition("/")[0], []).append(name)
    if {name.lower() for name in classes} <= PARTS:
        raise Refused(
            f"--data: {path} has {', '.join(sorted(classes))}, which are parts of a split and no "
            "classes; put the classes' folders there, the split is made by conf/recipe"
        )
    if len(classes) < 2:
        raise Refused(
            f"--data: {path} has one folder, {next(iter(classes))}; at least two classes are "
            "needed, a folder each"
        )
    return dict(sorted(classes.items()))


def _few(counts: dict[str, int]) -> list[str]:
    """The classes with too little to be learned, in words."""
    return [f"{plain_name(name)} ({count})" for name, count in counts.items() if count < LEAST]


def _of_folders(reads: str, what: str, counts: dict[str, int]) -> SurveyResult:
    """How a source and a recipe read a folder for each class."""
    rows = sum(counts.values())
    pictures = reads == "pictures"
    rule = {
        "pictures": {"kind": "picture", "name": "picture", "label": TOP},
        CLASSED: {"kind": "whole", "name": "text", "label": TOP},
    }.get(reads, {"kind": "whole", "name": "article", "language": TOP})
    shows = "what a picture shows" if pictures else "what a text is"
    return SurveyResult(
        source={
            "members": "*/*",
            "selector": [rule],
            "clean": {} if pictures else SHORT_TEXTS,
        },
        split=hashed(rows),
        rows=rows,
        told=f"{rows:,} {what} in {len(counts)} folders: {shown(counts)}",
        counts=counts,
        summary=f"Names {shows}: {_listed(counts)}.",
        kinds=[] if pictures else [str(rule["name"])],
        label=_by_column("label") if reads == CLASSED else {},
    )


def _by_column(column: str) -> dict[str, object]:
    """Options of labels: the class stands in this column, and nothing is rated."""
    return {"column": column, "rating": None, "least": None, "domains": None}


def _unfit(reads: str, path: Path) -> str | None:
    """Why a file is no picture or no text, or None."""
    from tidemill.kit import pictures

    if path.stat().st_size > MAX_MEMBER_MB * 2**20:
        return f"larger than {MAX_MEMBER_MB} MB"
    try:
        if reads == "pictures":
            pictures.opened(path.read_bytes())
        elif not path.read_bytes().decode("utf-8").strip():
            return "empty"
    except pictures.UnfitPicture as error:
        return str(error)
    except UnicodeDecodeError:
        return "not UTF-8"
    return None


def _texts(name: str, path: Path, found: list[str]) -> SurveyResult:
    """Texts alone, or in a folder for each language."""
    wrong = [why for file in found[:LOOKED] if (why := _unfit("texts", path / file))]
    if len(wrong) == min(LOOKED, len(found)):
        raise Refused(f"--data: {path} holds no text, {found[0]} is {wrong[0]}")
    loose = [file for file in found if "/" not in file]
    if loose and len(loose) < len(found):
        raise Refused(
            f"--data: {loose[0]} lies in no folder and others do; put all texts into folders "
            "named by their language, or all beside each other"
        )
    counts = (
        {} if loose else dict(sorted(Counter(file.partition("/")[0] for file in found).items()))
    )
    rule = {"kind": "whole", "name": "text", **({} if loose else {"language": TOP})}
    return SurveyResult(
        source={
            "members": "*",
            "selector": [rule],
            "clean": LONG_TEXTS,
        },
        split=hashed(len(found)),
        rows=len(found),
        counts=counts,
        told=f"{len(found):,} texts"
        + (f" in {len(counts)} folders: {shown(counts)}" if counts else ""),
        summary=f"Continues a text in the manner of {name}.",
        kinds=["text"],
        label={"languages": {}, "given": {name: "und"} if loose else None},
    )


def _rows(reads: str, name: str, path: Path, columns: dict[str, str]) -> SurveyResult:
    """A table with a row for each text; or of pixels, where pictures are read."""
    body = _body(path)
    if reads == "pictures":
        return _pixels(path, body)
    if path.suffix.lower() in JSON_LINES:
        return _of_json_lines(reads, path, body, columns)
    delimiter, head, rows = _table(path, body, tuple(columns.values()))
    text = _text_column(path, columns, head)
    rule: dict[str, object] = {"kind": "table", "name": "text", "text": text}
    values = list(rows)
    if not values:
        raise Refused(f"--data: {path} has a head and no rows")
    if delimiter != ",":
        rule["delimiter"] = delimiter
    if key := _key(head, values):
        rule["key"] = [key]
    names_language = {name.lower() for name in head} & set(LANGUAGE)
    if reads == "texts" and "label" not in columns and not names_language:
        return _of_plain_rows(name, path, rule, len(values))
    label = column_meant("label", columns, head, LANGUAGE if reads == "texts" else LABEL)
    # The label step takes the space around a class's name away, as here.
    labels = [row[label].strip() if reads == CLASSED else row[label] for row in values]
    counts = dict(sorted(Counter(filter(None, labels)).items()))
    if reads != "texts":
        _check_labels(path, label, counts)
    if reads != CLASSED:
        rule["language"] = label
    if reads == "labelled texts":
        rule["name"] = "article"
    found = _of_labelled_rows(reads, path, rule, len(values), counts, label)
    found.told += _left_out([row[text] for row in values])
    return found


def _of_json_lines(reads: str, path: Path, body: str, columns: dict[str, str]) -> SurveyResult:
    """A record a line, for texts with classes. Refused where it is read as something else."""
    if reads != CLASSED:
        raise Refused(
            f"--data: {path} holds JSON lines, which are read for {CLASSED}; save it as a CSV"
        )
    records = [_json_record(path, *numbered) for numbered in enumerate(body.split("\n"), 1)]
    rows = [record for record in records if record]
    head = list(dict.fromkeys(key for record in rows for key in record))
    text = column_meant("text", columns, head, TEXT)
    label = column_meant("label", columns, head, LABEL)
    rule = {"kind": "jsonl", "name": "text", "text": text, "attributes": {"label": label}}
    named = [value_at(record, label).strip() for record in rows]
    counts = dict(sorted(Counter(filter(None, named)).items()))
    _check_labels(path, label, counts)
    found = _of_labelled_rows(reads, path, rule, len(rows), counts, "label")
    found.told += _left_out([value_at(record, text) for record in rows])
    return found


def _left_out(texts: list[str]) -> str:
    """What is said of rows without a text; empty where all have one."""
    empty = sum(not text.strip() for text in texts)
    return f"; {empty:,} without a text are left out" if empty else ""


def doubtful(counts: dict[str, int]) -> str:
    """What is said of classes that a person may not have meant; empty where there are none."""
    few = _few(counts)
    by_letters: dict[str, list[str]] = {}
    for name in counts:
        by_letters.setdefault(name.casefold(), []).append(name)
    twins = [
        " and ".join(map(plain_name, names)) for names in by_letters.values() if len(names) > 1
    ]
    return (f"; too few to learn from: {', '.join(few[:8])}" if few else "") + (
        f"; classes of their own, though only case differs: {', '.join(twins[:8])}" if twins else ""
    )


def _json_record(path: Path, number: int, line: str) -> dict[str, object]:
    """One line's record; an empty one of an empty line. Raises Refused."""
    try:
        record = json.loads(line) if line.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Refused(f"--data: line {number} of {path} is not JSON: {line[:60]!r}") from error
    if not isinstance(record, dict):
        raise Refused(
            f"--data: line {number} of {path} is no record: {line[:60]!r}; a line is as "
            '{"text": "...", "label": "..."}'
        )
    return record


def _key(head: list[str], values: list[dict[str, str]]) -> str:
    """The column that names a row for ever: called so, and another in each row; else empty."""
    for name in head:
        cells = {row[name].strip() for row in values}
        if name.strip().lower() in KEY and len(cells) == len(values) and "" not in cells:
            return name
    return ""


def _check_labels(path: Path, label: str, counts: dict[str, int]) -> None:
    """Refuse a column of labels that names no two classes, or whose classes are all too small."""
    if len(counts) < 2:
        raise Refused(
            f"--data: column {label} of {path} has {len(counts)} "
            f"value{'s' if len(counts) != 1 else ''}; at least two classes are needed"
        )
    few = _few(counts)
    if len(few) == len(counts):
        raise Refused(
            f"--data: no class of column {label} has {LEAST} rows: {', '.join(few[:8])}; is "
            "that the column of labels? say --column label=NAME"
        )


def _of_plain_rows(name: str, path: Path, rule: Mapping[str, object], rows: int) -> SurveyResult:
    """How a table of texts without labels is read."""
    return SurveyResult(
        source={"members": "*", "selector": [rule], "clean": LONG_TEXTS},
        split=hashed(rows),
        rows=rows,
        told=f"{rows:,} texts, a row each",
        summary=f"Continues a text in the manner of {path.stem}.",
        kinds=["text"],
        label={"languages": {}, "given": {name: "und"}},
    )


def _of_labelled_rows(
    reads: str,
    path: Path,
    rule: Mapping[str, object],
    rows: int,
    counts: dict[str, int],
    label: str,
) -> SurveyResult:
    """How a table of texts with a label or a language each is read."""
    labelled = reads != "texts"
    unlabelled = rows - sum(counts.values())
    options: dict[str, dict[str, object]] = {
        "texts": {"languages": {}, "given": None},
        CLASSED: _by_column(label),
    }
    return SurveyResult(
        source={"members": "*", "selector": [rule], "clean": SHORT_TEXTS},
        split=hashed(rows),
        rows=rows,
        counts=counts,
        told=f"{rows:,} texts, a row each, in {len(counts)} classes: {shown(counts)}"
        + (f"; {unlabelled:,} without a class are left out" if unlabelled else "")
        + doubtful(counts),
        kinds=[str(rule["name"])],
        summary=f"Names what a text is: {_listed(counts)}."
        if labelled
        else f"Continues a text in the manner of {path.stem}.",
        label=options.get(reads, {}),
    )


def _pixels(path: Path, body: str) -> SurveyResult:
    lines = body.split()
    values = [line.split(",") for line in lines]
    size = len(values[0]) - 1 if values else 0
    side = round(size**0.5)
    if (
        side < 2
        or side * side != size
        or any(len(row) != size + 1 for row in values)
        or not all(re.fullmatch(r"\d+(\.0*)?", item) for item in values[0][:-1])
    ):
        raise Refused(
            f"--data: {path} is no table of pictures: no head, and in each row the pixels of a "
            "square picture (0 to 255) and its label; a folder for each class is read too"
        )
    counts = dict(sorted(Counter(row[-1] for row in values).items()))
    if len(counts) < 2:
        raise Refused(
            f"--data: {path} has one label, {values[0][-1]}; at least two classes are needed"
        )
    return SurveyResult(
        source={
            "members": "*",
            "selector": [{"kind": "pixels", "name": "picture", "size": [side, side]}],
            "clean": {},
        },
        split=hashed(len(values)),
        rows=len(values),
        counts=counts,
        told=f"{len(values):,} pictures of {side} x {side} pixels in {len(counts)} classes: "
        f"{shown(counts)}",
        summary=f"Names what a picture shows: {_listed(counts)}.",
    )


def _series(path: Path, columns: dict[str, str]) -> SurveyResult:
    delimiter, head, rows = _table(path, _body(path), tuple(columns.values()))
    if delimiter != ",":
        raise Refused(
            f"--data: the columns of {path} are separated by {delimiter!r}; a series is read "
            "where they are by commas"
        )
    named = {key: column_meant(key, columns, head, words) for key, words in SERIES.items()}
    adjusted = columns.get("adjusted") or next(
        (name for name in head if name.lower() in ADJUSTED), ""
    )
    group = columns.get("group") or next((name for name in head if name.lower() in GROUP), "")
    days = _days(path, rows, named["date"], group)
    if not group and days and len(set(days[""])) < len(days[""]):
        raise Refused(
            f"--data: days of {path} come twice, and no column names the series; it has "
            f"{', '.join(head)}: say --column group=NAME"
        )
    return _of_days(path, {**named, "adjusted": adjusted}, group, days)


def _days(
    path: Path, rows: Iterator[dict[str, str]], column: str, group: str
) -> dict[str, list[date]]:
    """The days of each series; of one without a name under an empty one."""
    days: dict[str, list[date]] = {}
    for number, row in enumerate(rows, 2):
        try:
            day = date.fromisoformat(row[column])
        except ValueError as error:
            raise Refused(
                f"--data: line {number} of {path} has {column} {row[column]!r}; "
                "days are written as 2026-11-24"
            ) from error
        days.setdefault(row[group] if group else "", []).append(day)
    return days


def _of_days(
    path: Path, columns: dict[str, str], group: str, days: dict[str, list[date]]
) -> SurveyResult:
    """How a table of series is read and split; Refused where it has too few days."""
    every = sorted({day for one in days.values() for day in one})
    if len(every) < 200:
        raise Refused(
            f"--data: {path} has {len(every)} days; at least 200 are needed for a window, a "
            "training, an embargo and a test"
        )
    rule: dict[str, object] = {
        "kind": "csv",
        "name": "series",
        **({"group": group} if group else {}),
        "columns": [column for column in columns.values() if column],
    }
    counts = {name: len(one) for name, one in sorted(days.items()) if name}
    return SurveyResult(
        source={"members": "*", "selector": [rule], "clean": {}},
        rows=sum(map(len, days.values())),
        counts=counts,
        label={"columns": columns},
        split={
            "by": "time",
            "column": "unit",
            "valid": every[int(len(every) * 0.6)].isoformat(),
            "test": every[int(len(every) * 0.8)].isoformat(),
        },
        told=f"{len(every):,} days, {every[0]} to {every[-1]}"
        + (f", of {len(counts)} series: {shown(counts)}" if counts else ""),
        summary="Gives the band in which tomorrow's open, high, low and close of "
        f"{_listed(counts) if counts else path.stem} will probably lie.",
    )


# Tables -----------------------------------------------------------------------------------------


def _body(path: Path) -> str:
    check_size(path)
    body = without_encoding(path, path.read_bytes())
    if not body.strip():
        raise Refused(f"--data: {path} is empty")
    return body


def check_size(path: Path) -> None:
    """Refuse a file that is larger than what cleaning reads."""
    if path.stat().st_size > MAX_MEMBER_MB * 2**20:
        raise Refused(
            f"--data: {path} has {path.stat().st_size / 2**20:.0f} MB, the limit of one file is "
            f"{MAX_MEMBER_MB}; put it as several texts or pictures into folders"
        )


def without_encoding(path: Path, body: bytes) -> str:
    """A file's text in UTF-8. Refused where it is none, with what it seems to be."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:100]
        name = "UTF-16" if utf16 else "WINDOWS-1252"
        raise Refused(
            f"--data: {path} is not UTF-8; it looks like {name}: save it as CSV UTF-8, or "
            f"iconv -f {name} -t UTF-8 {path.name} > utf8-{path.name}"
        ) from error


def check_first_line(path: Path, first: str) -> None:
    """Refuse what is no table's head though a reader would take it for one."""
    if first[0] in "[{":
        raise Refused(
            f"--data: {path} is JSON and no table; save it as JSON lines, a record a line, in a "
            "file that ends with .jsonl"
        )
    if first.startswith("sep="):
        raise Refused(f"--data: the first line of {path} is {first[:20]!r}, Excel's; remove it")


def _table(
    path: Path, body: str, wanted: tuple[str, ...]
) -> tuple[str, list[str], Iterator[dict[str, str]]]:
    """The delimiter, the head and the rows."""
    first = body.lstrip().splitlines()[0]
    check_first_line(path, first)
    csv.field_size_limit(MOST_CELL)
    delimiter = max(",;\t|", key=first.count)
    if not first.count(delimiter) and not wanted and first.strip().lower() not in TEXT:
        raise Refused(
            f"--data: the first line of {path} names no columns: {first[:60]!r}; a table has a "
            "head such as text,label"
        )
    head = next(csv.reader(io.StringIO(first), delimiter=delimiter))
    twice = [name for name, count in Counter(head).items() if count > 1]
    if twice:
        raise Refused(
            f"--data: {path} has the column {twice[0]!r} twice; give each a name of its own"
        )

    def rows() -> Iterator[dict[str, str]]:
        try:
            for number, row in enumerate(
                csv.DictReader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True), 2
            ):
                if None in row or None in row.values():
                    raise Refused(
                        f"--data: row {number} of {path} has not as many values as the head, "
                        f"which has {len(head)}"
                    )
                yield row
        except csv.Error as error:
            raise Refused(f"--data: {path} is no CSV table: {error}") from error

    return delimiter, head, rows()


def _text_column(path: Path, columns: dict[str, str], head: list[str]) -> str:
    """The column of texts; a table without one is another kind of application's."""
    if "text" not in columns and not any(name.strip().lower() in TEXT for name in head):
        raise Refused(
            f"--data: no column for text among {', '.join(head)[:200]}; say --column text=NAME, or "
            "--like an application of tables for numbers and categories (docs/tables.md)"
        )
    return column_meant("text", columns, head, TEXT)


def column_meant(key: str, given: dict[str, str], head: list[str], words: tuple[str, ...]) -> str:
    """The column that is meant: the one a person named, else the one whose name says so."""
    if key in given:
        if given[key] not in head:
            raise Refused(f"--column {key}={given[key]}: the table has {', '.join(head)}")
        return given[key]
    found = [name for name in head if name.strip().lower() in words]
    if len(found) != 1:
        raise Refused(
            f"--data: {'no column' if not found else 'more than one column'} for {key} among "
            f"{', '.join(head)[:200]}; say --column {key}=NAME"
        )
    return found[0]


def shown(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{plain_name(name)} {count:,}" for name, count in most[:8]) + (
        f" and {len(most) - 8} more" if len(most) > 8 else ""
    )


def _listed(counts: dict[str, int]) -> str:
    known = [plain_name(name) for name in counts]
    return (
        " or ".join([", ".join(known[:-1]), known[-1]])
        if 1 < len(known) <= 6
        else known[0]
        if len(known) == 1
        else f"one of {len(known)}"
    )


def plain_name(name: str) -> str:
    """A class's name as it may stand on a screen and in a sentence."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:40])
