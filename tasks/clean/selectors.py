"""Selectors: how a stored page or member is cut into the parts that become documents."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree

from tasks.clean import binary_selectors, table_selectors
from tasks.clean.part import Part, Unreadable
from tidemill.engines.config.schema import Rule

Beside = Callable[[str], bytes | None]


def cut(rule: Rule, uri: str, body: bytes, beside: Beside = lambda uri: None) -> Iterator[Part]:
    """A page's parts under one rule; none where the rule finds nothing.

    `beside` gives another page of its source.
    """
    if rule.kind in ("picture", "pixels", "csv", "audio"):
        return {
            "picture": binary_selectors.picture,
            "pixels": binary_selectors.pixels,
            "csv": binary_selectors.series,
            "audio": binary_selectors.audio,
        }[rule.kind](rule, uri, body)
    if rule.kind in ("rows", "frame"):
        of_table = table_selectors.rows if rule.kind == "rows" else table_selectors.frame
        return of_table(rule, uri, body)
    if rule.kind == "idx":
        return binary_selectors.idx(rule, uri, body, beside)
    return {
        "xpath": _xpath,
        "gettext": _gettext,
        "whole": _whole,
        "table": _table,
        "json": _json,
        "jsonl": _json_lines,
    }[rule.kind](rule, uri, body)


def _xpath(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True
    )
    try:
        tree = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"not XML: {error.msg.split(',')[0][:60]}") from error
    for node in tree.xpath(rule.each, namespaces=rule.namespaces):

        def ask(expression: str, node: etree._Element = node) -> str:
            result = node.xpath(expression, namespaces=rule.namespaces)
            return "\n".join(map(_node_text, result)) if isinstance(result, list) else str(result)

        part = Part(
            rule.name,
            ask(rule.part).rstrip("-"),
            ask(rule.text),
            ask(rule.language),
            ask(rule.script),
            attributes={key: ask(value) for key, value in sorted(rule.attributes.items())},
        )
        is_one_of_many = rule.each != "/*"
        if rule.key or (is_one_of_many and not part.part):
            named(part, tuple(ask(expression) for expression in rule.key))
        yield part


def named(part: Part, key: tuple[str, ...]) -> None:
    """Have a record known by its key, or by its content where its source names no key."""
    part.known_by, part.key = ("key", key) if key else ("content", ())


def _node_text(node: Any) -> str:
    """A node's text, its lines as they are; the indentation that all have is the markup's."""
    text = "".join(node.itertext()) if isinstance(node, etree._Element) else str(node)
    return textwrap.dedent(text.strip("\n"))


def _gettext(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    import hashlib

    import polib

    match = re.search(rule.language, uri)
    language = match.group(1) if match else ""
    try:
        said = body.decode("utf-8")
        if "\n" not in said:  # polib would take it for the name of a file, and read that
            raise Unreadable("not a gettext catalogue")
        entries = polib.pofile(said)
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise Unreadable("not a gettext catalogue") from error
    for entry in entries:
        if entry.obsolete or "fuzzy" in entry.flags:
            continue
        found = re.search(rule.original, entry.comment or "", re.DOTALL) if rule.original else None
        text = entry.msgstr or (entry.msgstr_plural or {}).get(0, "")
        if not text:
            continue
        key = hashlib.sha256(f"{entry.msgctxt or ''}\x04{entry.msgid}".encode()).hexdigest()[:16]
        yield Part(
            rule.name,
            f"msg-{key}",
            text,
            language,
            original=found.group(1) if found else entry.msgid,
        )


def _whole(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    found = None if rule.language == "''" else re.search(rule.language, uri)
    label = re.search(rule.label, uri) if rule.label else None
    try:
        yield Part(
            rule.name,
            "",
            body.decode("utf-8-sig"),
            language=found.group(1) if found else "",
            attributes={"label": label.group(1)} if label else {},
        )
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error


def _json(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """A record as an API gives it: text, language, script and attributes lie at dotted paths.

    Lists are put one under the other; true and false are words, null is nothing.
    """
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
    yield _record(rule, "", record)


def _json_lines(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """A record a line (JSON lines); a line of white space alone is none."""
    try:
        lines = body.decode("utf-8-sig").split("\n")  # a text may hold other separators of lines
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"line {number} is not JSON") from error
        yield _record(rule, f"row-{number}", record)


def _record(rule: Rule, place: str, record: Any) -> Part:
    """One record; `place` says where it stands among others, and is empty where it stands alone."""
    language, script = (
        "" if path == "''" else value_at(record, path) for path in (rule.language, rule.script)
    )
    attributes = {key: value_at(record, path) for key, path in sorted(rule.attributes.items())}
    part = Part(rule.name, "", value_at(record, rule.text), language, script, attributes=attributes)
    part.place = place
    if rule.key or place:
        named(part, tuple(value_at(record, path) for path in rule.key))
    return part


def value_at(record: Any, path: str) -> str:
    """What stands at a dotted path, as text."""
    value = record
    for part in path.split("."):
        if isinstance(value, list):
            is_place = part.isdigit() and int(part) < len(value)
            value = value[int(part)] if is_place else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    items = value if isinstance(value, list) else [value]
    return "\n".join(map(_scalar, filter(_is_scalar, items)))


def _is_scalar(item: Any) -> bool:
    return isinstance(item, str | int | float)


def _scalar(item: str | int | float) -> str:
    return json.dumps(item) if isinstance(item, bool) else str(item)


def _table(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    csv.field_size_limit(binary_selectors.MOST_CELL)
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        rows = csv.DictReader(
            text,
            rule.head or None,
            delimiter=rule.delimiter,
            restval="",
            quoting=csv.QUOTE_MINIMAL if rule.quoted else csv.QUOTE_NONE,
        )
        for column in filter(None, (rule.text, rule.language, *rule.key)):
            if column not in (".", "''") and column not in (rows.fieldnames or ()):
                head = ", ".join(rows.fieldnames or ())[:80]
                raise Unreadable(f"no column {column}; it has {head}")
        for number, row in enumerate(rows, 1):
            row.pop(None, None)  # cells beyond the head have no name
            values = dict(sorted(row.items()))
            language = values.get(rule.language, "")
            part = Part(rule.name, "", values.get(rule.text, ""), language, attributes=values)
            part.place = f"row-{number}"
            named(part, tuple(values[column] for column in rule.key))
            yield part
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable("not a CSV table in UTF-8") from error
