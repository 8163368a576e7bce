"""python -m tasks.clean SOURCE: data/raw/SOURCE to data/clean/SOURCE."""

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks import config, optout, places, process, text
from tasks.clean.cut import Beside, Part, Unreadable, cut
from tasks.collect import raw
from tasks.documents import DOCUMENTS, DROPPED, LINEAGE, counts, doc_id, save
from tasks.errors import Refused
from tasks.files import locked, write_json
from tasks.schema import Clean, Source

EMPTY_DROPPED = "empty"


def clean(name: str) -> None:
    source = config.source(name)
    folder, out = places.data("raw", name), places.data("clean", name)
    stated = optout.Stated(raw.statements(folder), config.general().collect)
    rows = [stated.now(row) for row in raw.manifest(folder).values() if row["status"] == 200]
    if not rows:
        raise Refused(f"source {name} is empty: data/raw/{name} has no page; collect it first: python -m tasks.collect {name}")
    kept, dropped, lineage = [], [], []
    known = {row["uri"]: row for row in rows}

    @lru_cache(maxsize=2)
    def beside(uri: str) -> bytes | None:
        """Another member of the same source; None where there is none."""
        return next((body for _, body in raw.bodies(folder, [known[uri]])), None) if uri in known else None

    with locked(places.state("locks", f"clean-{name}")):
        for number, (row, body) in enumerate(raw.bodies(folder, rows), 1):
            for document, reason in documents(source, row, body, beside):
                if reason:
                    dropped.append({"doc_id": document["doc_id"], "uri": document["uri"], "reason": reason, "text": document["text"][:200]})
                else:
                    kept.append(document)
                    lineage.append({
                        "doc_id": document["doc_id"], "uri": document["uri"], "fetched": row["fetched"],
                        "raw_file": row["raw_file"], "raw_locator": row["raw_locator"], "raw_digest": row["sha256"],
                    })
            if number % 50 == 0 or number == len(rows):
                process.progress(number, len(rows), "pages")
        if not kept:
            why = "; ".join(f"{n} x {reason}" for reason, n in list(counts(dropped, "reason").items())[:3])
            raise Refused(f"source {name}: no page has usable text ({why}); correct `selector` or `clean` in conf/source/{name}.yaml")
        _save(out, kept, dropped, lineage, len(rows))


def _save(out: Path, kept: list[dict], dropped: list[dict], lineage: list[dict], pages: int) -> None:
    for rows in (kept, dropped, lineage):
        rows.sort(key=lambda item: (item["uri"], item["doc_id"]))
    save(out / "documents.parquet", kept, DOCUMENTS)
    save(out / "dropped.parquet", dropped, DROPPED)
    save(out / "lineage.parquet", lineage, LINEAGE)
    report = {"rows": len(kept), "dropped": counts(dropped, "reason"), "counts": {"pages": pages}}
    write_json(out / "report.json", report)


def documents(source: Source, row: dict[str, Any], body: bytes, beside: Beside = lambda uri: None) -> list[tuple[dict[str, Any], str | None]]:
    """One record's documents, each with the reason it is dropped for, or None."""
    found: list[tuple[dict[str, Any], str | None]] = []
    why = "no part matches the selector"
    times: Counter[str] = Counter()
    for rule in source.selector:
        try:
            for part in cut(rule, row["uri"], body, beside):
                times[part.part] += 1
                if times[part.part] > 1:  # a page that numbers two parts alike
                    part.part = f"{part.part}-{times[part.part]}"
                document = describe(source, row, part)
                found.append((document, reason(source.clean, document)))
        except Unreadable as error:
            why = str(error)
    if not found:
        found.append((describe(source, row, Part("page", "", "")), why))
    return found


def describe(source: Source, row: dict[str, Any], part: Part) -> dict[str, Any]:
    """A part as a row of documents.parquet."""
    body = text.tidy(part.text)[: source.clean.max_chars]
    plain = text.prose(body) if part.original else body
    uri = f"{row['uri']}{'/' if '#' in row['uri'] else '#'}{part.part}" if part.part else row["uri"]
    letter_script = text.script(plain)
    return {
        "doc_id": doc_id(source.name, uri), "uri": uri, "source": source.name,
        "host": urlsplit(row["uri"]).hostname or row["uri"].split("#")[0],
        "kind": part.name, "part": part.part, "media": part.media or row["media"],
        "language": part.language, "script": part.script or letter_script, "original": text.tidy(part.original),
        "text": plain, "payload": part.payload, "attributes": json.dumps(part.attributes, sort_keys=True, ensure_ascii=False),
        "licence": source.licence, "opt_out": row["signals"] or "",
        "letters": text.letters(plain), "chars": len(plain), "words": len(plain.split()),
        "letter_script": letter_script,
    }


def reason(policy: Clean, document: dict[str, Any]) -> str | None:
    """Why a document is dropped, or None."""
    if not document["text"] and not document["payload"]:
        return EMPTY_DROPPED
    if document["payload"] is None and document["letters"] < policy.min_letters:
        return f"fewer than {policy.min_letters} letters"
    if document["uri"].startswith("http") and refused(document["opt_out"]):
        return "its site says no"
    english = document["language"].lower().startswith("en")
    if policy.drop_untranslated and not english and text.same(document["original"]) == text.same(document["text"]):
        return "untranslated"
    return None


@lru_cache(maxsize=4096)
def refused(signals: str) -> bool:
    """Whether what a page and its site say of use refuses it, by today's policy."""
    return not optout.decide(optout.read(signals), config.general().optout).allowed


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused(f"python -m tasks.clean SOURCE; conf/source has {', '.join(config.files('source'))}")
    clean(arguments[0])


if __name__ == "__main__":
    process.main(main, "python -m tasks.clean SOURCE: cut, read and measure a source's pages.")
