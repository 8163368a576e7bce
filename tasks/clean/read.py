"""One record of data/raw as documents: cut, measured, and where its source asks for it without what is personal."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tasks.clean import language, page, pii, quality
from tasks.clean.part import Part, Unreadable
from tasks.clean.selectors import Beside, cut
from tidemill.engines.config.schema import Source
from tidemill.text import normal

MOST_PARTS = 1_000_000  # of one record; a table of more rows is dropped

Document = dict[
    str, Any
]  # a row of documents.parquet, but for licence and opt_out, and `unread`: why nothing could be read


def documents(
    source: Source, row: dict[str, Any], body: bytes, beside: Beside = lambda uri: None
) -> list[Document]:
    """A record's documents; one that says why where there is none."""
    found: list[Document] = []
    why = "no part matches the selector"
    times: Counter[str] = Counter()
    names: set[str] = set()
    for rule in source.selector:
        before = len(found)
        try:
            for part in cut(rule, row["uri"], body, beside):
                part.part = _own(part.part, times, names)
                found.append(sound(source, row, part))
                if len(found) > MOST_PARTS:
                    raise Unreadable(f"more than {MOST_PARTS:,} parts")
        except Unreadable as error:
            why = str(error)
            del found[before:]  # a record is read whole or not at all
        except (
            RecursionError
        ):  # want of memory ends the child: it says nothing of the record, so it must not be kept
            why = "not readable: RecursionError"
            del found[before:]
    return found or [unreadable(source, row, why)]


def _own(name: str, times: Counter[str], names: set[str]) -> str:
    """A name that no other part of the record has: pages number two parts alike, and name one as a number would."""
    own = name
    while own in names:
        times[name] = max(2, times[name] + 1)
        own = f"{name}-{times[name]}"
    names.add(own)
    return own


def unreadable(source: Source, row: dict[str, Any], why: str) -> Document:
    return {**described(source, row, Part("page", "", "")), "unread": why}


def sound(source: Source, row: dict[str, Any], part: Part) -> Document:
    """A part as a document, or the reason why it cannot be one: text that no table can hold."""
    try:
        return described(source, row, part)
    except UnicodeEncodeError:
        return {
            **described(
                source,
                row,
                Part(
                    part.name,
                    "".join(letter for letter in part.part if not "\ud800" <= letter <= "\udfff"),
                    "",
                ),
            ),
            "unread": "half a character (a lone surrogate)",
        }


def pages(source: Source, row: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """A page before its host is known: what it holds, and its blocks as marks. What is personal goes here, before anything is kept."""
    try:
        read = page.read(body, row.get("charset"))
    except Unreadable as error:
        return {"unread": str(error)}, b""
    found: dict[str, dict[str, int]] = {}
    if source.clean.marks_pii(source.kind):
        read.title = pii.marked(read.title)[0]
        for place, (block, linked) in enumerate(read.blocks):
            block, counts = pii.marked(block)
            if counts:
                read.blocks[place], found[str(place)] = (block, linked), counts
    return {
        "title": read.title,
        "language": read.language,
        "blocks": read.blocks,
        "found": found,
    }, page.marks(read)


def of_page(
    source: Source, row: dict[str, Any], read: dict[str, Any], cut: Iterable[int]
) -> list[Document]:
    """The document of a page whose host is known by now."""
    if "unread" in read:
        return [unreadable(source, row, read["unread"])]
    stays = page.staying([(block, linked) for block, linked in read["blocks"]], cut)
    counts: Counter[str] = Counter()
    for place in stays:
        counts.update(read["found"].get(str(place), {}))
    main = "\n".join(read["blocks"][place][0] for place in stays)
    return [
        sound(
            source,
            row,
            Part(
                source.selector[0].name,
                "",
                main,
                read["language"],
                attributes={"title": read["title"]},
                lines=True,
                found=dict(counts),
            ),
        )
    ]


def described(source: Source, row: dict[str, Any], part: Part) -> Document:
    """A part as a row of documents.parquet. Raises UnicodeEncodeError."""
    body = (
        "\n".join(filter(None, map(normal.tidy, part.text.split("\n"))))
        if part.lines
        else normal.tidy(part.text)
    )
    plain = (
        normal.prose(body[: source.clean.max_chars])
        if part.original
        else body[: source.clean.max_chars]
    )
    attributes, original, found = part.attributes, normal.tidy(part.original), part.found or {}
    if part.found is None and source.clean.marks_pii(source.kind):
        plain, found = pii.marked(plain)
        original = pii.marked(original)[0] if original else ""
        attributes = {key: pii.marked(value)[0] for key, value in attributes.items()}
    told = json.dumps(attributes, sort_keys=True, ensure_ascii=False)
    for said in (plain, original, told, part.part, part.language, part.script):
        said.encode()
    uri = f"{row['uri']}{'/' if '#' in row['uri'] else '#'}{part.part}" if part.part else row["uri"]
    letter_script = normal.script(plain)
    guess, score = language.found(plain)
    signals = quality.signals(
        plain,
        guess if score >= language.SURE else part.language.lower().split("-")[0].split("_")[0],
    )
    return {
        "doc_id": normal.doc_id(source.name, uri),
        "uri": uri,
        "source": source.name,
        "host": urlsplit(row["uri"]).hostname or row["uri"].split("#")[0],
        "kind": part.name,
        "part": part.part,
        "media": part.media or row["media"],
        "language": part.language,
        "script": part.script or letter_script,
        "original": original,
        "text": plain,
        "payload": part.payload,
        "attributes": told,
        "letters": normal.letters(plain),
        "chars": len(plain),
        "words": len(plain.split()),
        "letter_script": letter_script,
        "language_found": guess,
        "language_score": score,
        "languages": language.mixture(plain) if part.lines else "",
        "quality": json.dumps(signals, separators=(",", ":")) if signals else "",
        "pii": json.dumps(found, sort_keys=True, separators=(",", ":")) if found else "",
        "digest": normal.digest(normal.sought(plain, part.payload)),
    }
