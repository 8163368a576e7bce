"""One record of data/raw as documents: cut and measured.

Where its source asks for it, without what is personal.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from tasks.clean import identity, language, page, pii, quality
from tasks.clean.part import Part, Unreadable
from tasks.clean.rows import Content, Document, Record, TextMeasures
from tasks.clean.selectors import Beside, cut
from tidemill.engines.config.schema import Source
from tidemill.kit import content
from tidemill.text import normal
from tidemill.web import headers

MOST_PARTS = 1_000_000  # of one record; a table of more rows is dropped
MOST_TITLE = 500
LONGEST_LABEL = 60  # characters of a block that may name what stands in the next


def documents(
    source: Source, row: Record, body: bytes, beside: Beside = lambda uri: None
) -> list[Document]:
    """A record's documents; one that says why where there is none."""
    cut_out: list[Document] = []
    why = "no part matches the selector"
    times: Counter[str] = Counter()
    names: set[str] = set()
    for rule in source.selector:
        before = len(cut_out)
        try:
            for part in cut(rule, row["uri"], body, beside):
                said = identity.said(part)
                _name(source, part, times, names)
                cut_out.append(sound(source, row, part, said))
                if len(cut_out) > MOST_PARTS:
                    raise Unreadable(f"more than {MOST_PARTS:,} parts")
        except Unreadable as error:
            why = str(error)
            del cut_out[before:]  # a record is read whole or not at all
        except RecursionError:  # want of memory ends the child: it says nothing of the record
            why = "not readable: RecursionError"
            del cut_out[before:]
    return cut_out or [unreadable(source, row, why)]


def _name(source: Source, part: Part, times: Counter[str], names: set[str]) -> None:
    """Give a part a name for people, without what is personal, and its place in the record."""
    is_marked = source.clean.marks_pii(source.kind)  # a series is named by its group
    name = pii.marked(part.part)[0] if is_marked else part.part
    part.place = _own(part.place or name, times, names)
    if part.known_by == "key":
        key = ",".join(part.key)
        is_shown = len(key) <= identity.LONGEST_NAME and not (is_marked and pii.marked(key)[1])
        part.part = name or (key if is_shown else "")
    elif part.known_by == "address" and source.kind not in identity.WITHOUT_ADDRESSES:
        part.part = part.place
    else:
        part.part = name


def _own(name: str, times: Counter[str], names: set[str]) -> str:
    """A name that no other part of the record has.

    Pages number two parts alike, and name one as a number would.
    """
    own = name
    while own in names:
        times[name] = max(2, times[name] + 1)
        own = f"{name}-{times[name]}"
    names.add(own)
    return own


def unreadable(source: Source, row: Record, why: str) -> Document:
    return {**described(source, row, Part("page", "", ""), ""), "unread": why}


def sound(source: Source, row: Record, part: Part, said: str) -> Document:
    """A part as a document, or the reason why it cannot be one: text that no table can hold."""
    try:
        return described(source, row, part, said)
    except UnicodeEncodeError:
        return {
            **described(
                source,
                row,
                Part(part.name, _whole_letters(part.part), "", place=_whole_letters(part.place)),
                said,
            ),
            "unread": "half a character (a lone surrogate)",
        }


def _whole_letters(text: str) -> str:
    return "".join(letter for letter in text if not "\ud800" <= letter <= "\udfff")


def pages(source: Source, row: Record, body: bytes) -> tuple[Content, bytes]:
    """A page before its host is known: what it holds, and its blocks as marks.

    What is personal is replaced here, before anything is kept.
    """
    try:
        read = _page(row, body)
    except Unreadable as error:
        return {"unread": str(error)}, b""
    personal: dict[str, dict[str, int]] = {}
    if source.clean.marks_pii(source.kind):
        read.title = pii.marked(read.title, limit=MOST_TITLE)[0]
        before = ""
        for place, (block, linked) in enumerate(read.blocks):
            plain, counts = pii.marked(block, before)
            before = block if len(block) <= LONGEST_LABEL else ""
            if counts:
                read.blocks[place], personal[str(place)] = (plain, linked), counts
    return {
        "title": read.title[:MOST_TITLE],
        "language": read.language,
        "blocks": read.blocks,
        "found": personal,
    }, page.marks(read)


def _page(row: Record, body: bytes) -> page.MainText:
    """A page by its media type, as the crawler decides it. Raises Unreadable."""
    media = row.get("media")
    if headers.is_html(media, body):
        return page.read(body, row.get("charset"))
    if media is None or media in (*headers.UNKNOWN, headers.PLAIN):
        return page.plain(body, row.get("charset"))
    raise Unreadable(f"media type {media}: neither HTML nor plain text")


def of_page(source: Source, row: Record, read: Content, cut: Iterable[int]) -> list[Document]:
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
            identity.of_blocks(read["title"], read["language"], read["blocks"]),
        )
    ]


def described(source: Source, row: Record, part: Part, said: str) -> Document:
    """A part as a row of documents.parquet; `said` is the digest of its content as it came.

    Raises UnicodeEncodeError.
    """
    place = identity.joined(row["uri"], part.place or part.part)
    known = identity.of(source.kind, place, part, said)
    is_unnamed = part.known_by != "address" and not part.part
    part, counts = _without_personal(source, part)
    attributes = json.dumps(part.attributes, sort_keys=True, ensure_ascii=False)
    for text in (part.text, part.original, attributes, part.part, part.language, part.script):
        text.encode()
    name = part.part if part.known_by == "key" else part.place
    return {
        "doc_id": known.doc_id,
        "content_id": known.content_id,
        "known_by": known.known_by,
        "null_key": known.known_by == "key" and not all(map(str.strip, part.key)),
        "unnamed": is_unnamed,
        "place": place,
        "uri": row["uri"] if is_unnamed else identity.joined(row["uri"], name),
        "source": source.name,
        "host": urlsplit(row["uri"]).hostname or row["uri"].split("#")[0],
        "kind": part.name,
        "part": part.part,
        "media": part.media or row["media"],
        "language": part.language,
        "original": part.original,
        "text": part.text,
        "payload": part.payload,
        "attributes": attributes,
        "pii": json.dumps(counts, sort_keys=True, separators=(",", ":")) if counts else "",
        "digest": content.digest(part.text, part.payload),
        **_measured(part),
    }


def _without_personal(source: Source, part: Part) -> tuple[Part, dict[str, int]]:
    """The part with its text in normal form and of at most `max_chars`, and what was marked."""
    limit = source.clean.max_chars
    original = normal.tidy(part.original)
    text = normal.prose(normal.tidy(part.text)) if part.original else normal.lines(part.text)
    if part.found is not None or not source.clean.marks_pii(source.kind):
        return replace(part, text=text[:limit], original=original), part.found or {}
    text, counts = pii.marked(text, limit=limit)
    payload = part.payload
    if payload is not None and part.media == "text/csv":
        payload, in_payload = _series_without_personal(payload)
        counts = dict(sorted((Counter(counts) + Counter(in_payload)).items()))
    plain = replace(
        part,
        text=text,
        original=pii.marked(original)[0],
        attributes={key: pii.marked(value, key)[0] for key, value in part.attributes.items()},
        payload=payload,
    )
    return plain, counts


def _series_without_personal(payload: bytes) -> tuple[bytes, dict[str, int]]:
    """A series' rows, each cell read under the name of its column."""
    rows = list(csv.reader(io.StringIO(payload.decode())))
    counts: Counter[str] = Counter()
    for row in rows[1:]:
        for place, (cell, column) in enumerate(zip(row, rows[0], strict=False)):
            row[place], found = pii.marked(cell, column)
            counts.update(found)
    if not counts:
        return payload, {}
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode(), dict(counts)


def _measured(part: Part) -> TextMeasures:
    """What is counted in a part's text."""
    letter_script = normal.script(part.text)
    guess, score = language.found(part.text)
    declared = part.language.lower().split("-")[0].split("_")[0]
    signals = quality.signals(part.text, guess if score >= language.SURE else declared)
    return {
        "script": part.script or letter_script,
        "letters": normal.letters(part.text),
        "chars": len(part.text),
        "words": len(part.text.split()),
        "letter_script": letter_script,
        "language_found": guess,
        "language_score": score,
        "languages": language.mixture(part.text) if part.lines else "",
        "quality": json.dumps(signals, separators=(",", ":")) if signals else "",
    }
