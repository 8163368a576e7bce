"""An API of JSON pages on loopback: every record once, the next night only what changed.

And no loop without an end.
"""

import asyncio
import json
import random
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from warcio.archiveiterator import ArchiveIterator

from tasks.collect.api import ApiNight
from tidemill.engines import config
from tidemill.engines.config.schema import Source
from tidemill.records import warc
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

SETTINGS = config.general().collect.model_copy(update={"attempts": 2, "timeout_s": 5.0})
Shop = Callable[[web.Request], web.Response]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    return tmp_path


def source(more: dict[str, Any] | None = None, **fields: Any) -> Source:
    return Source.model_validate(
        {
            "name": "shop",
            "kind": "api",
            "licence": "MIT",
            "allow_loopback": True,
            "delay_s": 0,
            "selector": [{"kind": "whole", "name": "record"}],
            "clean": {},
            "api": {
                "url": "http://api.localhost/v1/items",
                "records": "data.items",
                "key": "id",
                **(more or {}),
            },
            **fields,
        }
    )


def night(project: Path, what: Source, answer: Shop, asked: list[str] | None = None) -> ApiNight:
    """One night against a server whose answers `answer` gives."""

    async def go() -> ApiNight:
        async def handle(request: web.Request) -> web.Response:
            if asked is not None:
                asked.append(request.path_qs)
            return answer(request)

        app = web.Application()
        app.router.add_get("/{name:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            found = ApiNight(
                what, SETTINGS, folder, {"api.localhost": ("127.0.0.1", runner.addresses[0][1])}
            )
            await found.run()
            found.finished(warc.save_manifest(folder, found.rows.values()))
            return found
        finally:
            await runner.cleanup()

    folder = project / "data/raw/shop"
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(go())


def bodies(project: Path) -> dict[str, Any]:
    folder = project / "data/raw/shop"
    rows = [row for row in warc.manifest(folder).values() if row["status"] == 200]
    return {row["uri"].split("#")[1]: json.loads(body) for row, body in warc.bodies(folder, rows)}


ITEMS = [
    {"id": number, "text": f"Ware {number}", "at": f"2026-01-{number + 1:02d}T10:00:00Z"}
    for number in range(7)
]


def shop(how: str, items: list[dict[str, Any]] | None = None) -> Shop:
    """Seven records, three a page."""
    found = items if items is not None else ITEMS

    def answer(request: web.Request) -> web.Response:
        asked = request.query
        since = asked.get("since", "")
        rows = [row for row in found if row["at"] >= since]
        if how == "page":
            start = 3 * (int(asked.get("page", 1)) - 1)
        elif how == "offset":
            start = int(asked.get("offset", 0))
        else:
            start = int(asked.get("after", 0))
        part, left = rows[start : start + 3], len(rows) > start + 3
        body: dict[str, Any] = {"data": {"items": part}, "more": str(start + 3) if left else None}
        headers = (
            {"Link": f'<?after={start + 3}>; rel="next", <?after=0>; rel="first"'}
            if how == "link" and left
            else {}
        )
        return web.json_response(body, headers=headers)

    return answer


@pytest.mark.parametrize(
    "pages",
    [
        {"pages": "page"},
        {"pages": "offset"},
        {"pages": "link"},
        {"pages": "cursor", "cursor": "more", "parameter": "after"},
    ],
    ids=lambda item: item["pages"],
)
def test_every_record_is_had_once_however_pages_are_named(project: Path, pages: dict) -> None:
    found = night(project, source(pages), shop(pages["pages"]))
    assert bodies(project) == {str(item["id"]): item for item in ITEMS}
    assert found.counts["fetched"] == 7 and not found.reasons
    again = night(project, source(pages), shop(pages["pages"]))
    assert (
        again.counts["fetched"] == 0
        and again.counts["unchanged"] == 7
        and len(list((project / "data/raw/shop").glob("*.warc.gz"))) == 1
    )


def test_each_page_is_kept_as_it_came_in_a_warc_that_another_reader_reads(project: Path) -> None:
    night(project, source({"pages": "page"}), shop("page"))
    [segment] = (project / "data/raw/shop").glob("*.warc.gz")
    with segment.open("rb") as file:
        found = [
            (record.rec_headers["WARC-Target-URI"], json.loads(record.content_stream().read()))
            for record in ArchiveIterator(file)
            if record.rec_type == "response"
        ]
    assert [uri for uri, _ in found] == [
        f"http://api.localhost/v1/items?page={number}" for number in (1, 2, 3)
    ]
    assert found[2][1]["data"]["items"] == ITEMS[6:]


def test_the_next_night_merges_by_key_and_what_is_listed_no_more_is_gone(project: Path) -> None:
    night(project, source({"pages": "page"}), shop("page"))
    now = [
        {**ITEMS[0], "text": "neu"},
        *ITEMS[2:],
        {"id": 9, "text": "Ware 9", "at": "2026-02-01T10:00:00Z"},
    ]
    told = night(project, source({"pages": "page"}), shop("page", now))
    assert (told.counts["fetched"], told.counts["unchanged"], told.counts["gone"]) == (2, 5, 1)
    assert bodies(project) == {str(item["id"]): item for item in now}
    assert (
        warc.manifest(project / "data/raw/shop")["http://api.localhost/v1/items#1"]["status"] == 410
    )


def test_only_what_changed_since_is_asked_for_less_a_window_and_nothing_is_gone_for_that(
    project: Path,
) -> None:
    what = source({"pages": "page", "changed": "at", "since": "since", "lag_minutes": 60 * 24})
    asked: list[str] = []
    night(project, what, shop("page"), asked)
    assert "since" not in asked[0]
    asked.clear()
    late = [*ITEMS, {"id": 8, "text": "spät", "at": "2026-01-06T11:00:00Z"}]
    told = night(project, what, shop("page", late), asked)
    assert asked[0] == "/v1/items?page=1&since=2026-01-06T10%3A00%3A00Z"
    assert told.counts["fetched"] == 1 and told.counts["gone"] == 0 and len(bodies(project)) == 8


def test_a_record_taken_back_is_gone(project: Path) -> None:
    what = source({"pages": "page", "changed": "at", "since": "since", "deleted": "deleted_at"})
    night(project, what, shop("page"))
    told = night(project, what, shop("page", [{**ITEMS[6], "deleted_at": "2026-02-02"}]))
    assert told.counts["gone"] == 1 and sorted(bodies(project)) == ["0", "1", "2", "3", "4", "5"]


# What goes wrong ----------------------------------------------------------------------------------


def looped(request: web.Request) -> web.Response:
    return web.json_response({"data": {"items": ITEMS[:3]}, "more": "x"})


@pytest.mark.parametrize(
    "pages",
    [{"pages": "page"}, {"pages": "offset"}, {"pages": "cursor", "cursor": "more"}],
    ids=lambda item: item["pages"],
)
def test_an_api_that_loops_is_left_with_what_it_gave_and_nothing_is_gone(
    project: Path, pages: dict
) -> None:
    night(
        project,
        source(pages),
        lambda request: shop("page")(request) if pages["pages"] == "page" else looped(request),
    )
    told = night(project, source(pages), looped)
    assert (
        any(reason.startswith("pages repeat") for reason in told.reasons)
        and told.counts["pages"] <= 3
        and not told.counts["failed"]
    )
    assert told.counts["gone"] == 0 and {"0", "1", "2"} <= set(bodies(project))


def test_cursors_without_an_end_are_cut_by_max_pages(project: Path) -> None:
    count = iter(range(1000))
    told = night(
        project,
        source({"pages": "cursor", "cursor": "more", "max_pages": 5}),
        lambda request: web.json_response(
            {"data": {"items": [{"id": next(count)}]}, "more": next(count)}
        ),
    )
    assert told.counts["pages"] == 5 and told.reasons["over 5 pages, which is max_pages"] == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rows": []}, "no list of records at 'data.items'; is api.records right"),
        ({"data": {"items": {"a": 1}}}, "no list of records"),
        ({"data": {"items": [{"name": "x"}]}}, "a record without 'id'; is api.key right"),
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON|no list of records"),
    ],
)
def test_an_api_that_changed_its_shape_is_a_fault_that_keeps_what_was_collected(
    project: Path, body: Any, words: str
) -> None:
    night(project, source({"pages": "page"}), shop("page"))
    with pytest.raises(Fault, match=f"source shop could not be had: 1 x ({words})"):
        night(
            project,
            source({"pages": "page"}),
            lambda request: (
                web.Response(text=body) if isinstance(body, str) else web.json_response(body)
            ),
        )
    assert len(bodies(project)) == 7


def test_a_page_that_fails_in_the_middle_is_named_and_the_rest_is_kept(project: Path) -> None:
    def answer(request: web.Request) -> web.Response:
        return (
            web.Response(status=404) if request.query.get("page") == "3" else shop("page")(request)
        )

    told = night(project, source({"pages": "page"}, max_failed=0.5), answer)
    assert told.reasons == {"answered 404": 1} and len(bodies(project)) == 6
    with pytest.raises(
        Fault, match=r"1 of 3 pages failed \(1 x answered 404\), max_failed is 0\.05"
    ):
        night(project, source({"pages": "page"}), answer)


def test_what_a_broken_night_did_not_see_is_asked_for_again(project: Path) -> None:
    """The newest come first, and the page after them fails.

    The next night must not begin at the newest.
    """
    what = source(
        {"pages": "page", "changed": "at", "since": "since", "lag_minutes": 0}, max_failed=0.5
    )
    newest_first = sorted(ITEMS, key=lambda row: row["at"], reverse=True)
    night(
        project,
        what,
        lambda request: (
            web.Response(status=404)
            if request.query.get("page") == "2"
            else shop("page", newest_first)(request)
        ),
    )
    assert len(bodies(project)) == 3
    asked: list[str] = []
    night(project, what, shop("page", newest_first), asked)
    assert "since" not in asked[0] and len(bodies(project)) == 7
    asked.clear()
    night(project, what, shop("page", newest_first), asked)
    assert "since=2026-01-07" in asked[0], "a whole night is what the next one builds on"


def test_a_note_of_other_data_and_a_damaged_one_count_for_nothing(project: Path) -> None:
    what = source({"pages": "page", "changed": "at", "since": "since"})
    night(project, what, shop("page"))
    note = project / ".tidemill/collect/shop.since"
    for body in ("{", json.dumps({"since": "2026-01-07T10:00:00+00:00", "raw": "another"})):
        note.write_text(body)
        asked: list[str] = []
        night(project, what, shop("page"), asked)
        assert "since" not in asked[0]


def test_a_record_of_the_future_hides_none_of_today(project: Path) -> None:
    what = source({"pages": "page", "changed": "at", "since": "since", "lag_minutes": 0})
    night(
        project,
        what,
        shop("page", [*ITEMS, {"id": 99, "text": "Zukunft", "at": "2999-01-01T00:00:00Z"}]),
    )
    asked: list[str] = []
    night(
        project,
        what,
        shop(
            "page",
            [
                *ITEMS,
                {"id": 99, "text": "Zukunft", "at": "2999-01-01T00:00:00Z"},
                {"id": 50, "text": "heute", "at": "2026-03-01T00:00:00Z"},
            ],
        ),
        asked,
    )
    assert "since=2026-01-07" in asked[0] and "50" in bodies(project)


def test_a_misspelt_path_is_doubted_and_nothing_is_gone_for_it(project: Path) -> None:
    night(
        project, source({"pages": "cursor", "cursor": "more", "parameter": "after"}), shop("cursor")
    )
    told = night(
        project, source({"pages": "cursor", "cursor": "nxt", "parameter": "after"}), shop("cursor")
    )
    assert (
        told.reasons == {"nothing at 'nxt' in any answer; is api.cursor right?": 1}
        and told.counts["gone"] == 0
        and len(bodies(project)) == 7
    )
    told = night(
        project, source({"pages": "page", "changed": "when", "since": "since"}), shop("page")
    )
    assert told.reasons == {"no record has a time at 'when'; is api.changed right?": 1}


def test_a_server_that_is_busy_is_asked_again_when_it_said(project: Path) -> None:
    times: list[float] = []

    def answer(request: web.Request) -> web.Response:
        import time

        times.append(time.time())
        return (
            web.Response(
                status=429, headers={"Retry-After": formatdate(time.time() + 2, usegmt=True)}
            )
            if len(times) == 1
            else shop("page")(request)
        )

    told = night(project, source({"pages": "page"}), answer)
    assert times[1] - times[0] >= 1.0 and not told.reasons and len(bodies(project)) == 7


def test_a_host_that_asks_to_be_left_alone_for_long_is_left_and_the_next_process_knows(
    project: Path,
) -> None:
    with pytest.raises(Fault, match="asks to be left alone for 7200 s"):
        night(
            project,
            source({"pages": "page"}),
            lambda request: web.Response(status=503, headers={"Retry-After": "7200"}),
        )
    import time

    assert float((project / ".tidemill/collect/shop.next").read_text()) > time.time() + 7000


def test_a_next_page_on_another_host_is_not_asked(project: Path) -> None:
    told = night(
        project,
        source({"pages": "cursor", "cursor": "more"}),
        lambda request: web.json_response(
            {"data": {"items": ITEMS[:2]}, "more": "http://other.localhost/steal"}
        ),
    )
    assert told.reasons == {"its next page is on another host": 1} and len(bodies(project)) == 2


# Secrets ------------------------------------------------------------------------------------------


def test_a_token_comes_from_the_environment_and_is_kept_nowhere(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    what = source({"pages": "page", "headers": {"Authorization": "Bearer $A_SHOPS_TOKEN"}})
    with pytest.raises(
        Refused, match=r"names \$A_SHOPS_TOKEN, and the environment has no such variable"
    ):
        night(project, what, shop("page"))
    monkeypatch.setenv("A_SHOPS_TOKEN", "canary-77aa11")

    def answer(request: web.Request) -> web.Response:
        return (
            shop("page")(request)
            if request.headers["Authorization"] == "Bearer canary-77aa11"
            else web.Response(status=401)
        )

    night(project, what, answer)
    assert len(bodies(project)) == 7 and "canary" not in caplog.text
    for path in (path for path in project.rglob("*") if path.is_file()):
        from tasks.clean.binary_selectors import unpacked

        assert b"canary-77aa11" not in path.read_bytes() and (
            path.suffix != ".gz" or b"canary" not in unpacked(path.read_bytes())
        )
    monkeypatch.setenv("A_SHOPS_TOKEN", "wrong")
    with pytest.raises(Fault, match=r"answered 401: are the variables of api\.headers"):
        night(project, what, answer)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"headers": {"Authorization": "Bearer abc"}},
            (
                r"api.headers.Authorization looks like a secret and is written out; "
                r"say Authorization: \$A_TOKEN"
            ),
        ),
        ({"since": "since"}, "api.since needs api.changed"),
        ({"pages": "cursor"}, "which needs it"),
        ({"url": "ftp://x"}, "should match pattern"),
        ({"url": "http://me:pass@x/y"}, "should match pattern"),
    ],
)
def test_what_makes_no_sense_is_refused(more: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        source(more)


# How pages end ------------------------------------------------------------------------------------


def ending(how: str, items: list[dict[str, Any]]) -> Shop:
    """Three records a page, and one of the common ways to say that there are no more."""

    def answer(request: web.Request) -> web.Response:
        number = int(request.query.get("page", 1))
        last = -(-len(items) // 3)
        if how == "the last page again":
            number = min(number, last)
        part = items[3 * (number - 1) : 3 * number]
        headers = {"X-Total-Count": str(len(items))} if how == "404 and a total" else {}
        if not part and how.startswith("404"):
            return web.Response(status=404)
        if not part and how in ("204", "416", "400"):
            return web.Response(status=int(how))
        rows: Any = None if not part and how == "null" else part
        return web.json_response({"data": {"items": rows}}, headers=headers)

    return answer


ENDS = [
    "an empty list",
    "null",
    "404",
    "404 and a total",
    "400",
    "416",
    "204",
    "the last page again",
]


@pytest.mark.parametrize("how", ENDS)
def test_however_an_apis_pages_end_the_night_is_whole(project: Path, how: str) -> None:
    rows = ITEMS if how != "404 and a total" else ITEMS[:6]
    for left in (rows, rows[:-3] + rows[-1:] if how != "404 and a total" else rows[:3]):
        found = night(project, source({"pages": "page"}, max_failed=0.0), ending(how, left))
        if how == "the last page again" and len(left) % 3 == 0:
            continue
        assert (found.whole, dict(found.reasons)) == (True, {})
        assert sorted(bodies(project)) == sorted(str(row["id"]) for row in left)


LINKS = [
    [("Link", '<?after=0>; rel="last"'), ("Link", '<?after=3>; rel="next"')],
    [("Link", '<?after=0>; rel="first", <?after=3>; REL=Next')],
    [("Link", "<?after=0>; rel='first', <?after=3>; rel='next'")],
    [("link", '<?after=0>; title="a, b; rel=next"; rel=last'), ("LINK", "<?after=3>;rel='x next'")],
    [("Link", '<?after=3>; rel="prefetch next"; title="<x>, rel=\\"no\\""')],
    [("Link", '<?after=9>; rel="next"; anchor="/other", <?after=3>; rel="next"')],
    [("Link", "<?after=3> ; rel = next ,, <?after=0>;rel=prev")],
]


@pytest.mark.parametrize("lines", LINKS)
def test_a_link_header_is_read_by_its_standard(project: Path, lines: list[tuple[str, str]]) -> None:
    """RFC 9110, 5.3, and RFC 8288: lines, relations, quotes and case."""
    lines = [(name, value.replace("'x next'", '"x next"')) for name, value in lines]

    def answer(request: web.Request) -> web.Response:
        start = int(request.query.get("after", 0))
        body = {"data": {"items": ITEMS[start : start + 3]}}
        response = web.json_response(body)
        if not start:
            for name, value in lines:
                response.headers.add(name, value)
        return response

    found = night(project, source({"pages": "link"}), answer)
    assert found.whole and sorted(bodies(project)) == [str(number) for number in range(6)]


def test_records_that_an_api_counts_and_did_not_give_are_not_gone(project: Path) -> None:
    night(project, source({"pages": "link"}), shop("page", ITEMS[:3]))

    def answer(request: web.Request) -> web.Response:
        body = {"data": {"items": ITEMS[:2]}}
        return web.json_response(body, headers={"X-Total-Count": "3"})

    found = night(project, source({"pages": "link"}), answer)
    assert not found.whole and len(bodies(project)) == 3
    assert dict(found.reasons) == {"it has 3 records by its own word, and 2 were seen": 1}


def test_odd_bytes_of_records_cost_none_of_the_others(project: Path) -> None:
    """Half characters, bytes that are no UTF-8, numbers that no table takes: seeded and mixed."""
    chance = random.Random(3)
    odd = [
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"caf\xe9"',
        b"1e999",
        b'"a\\u0000"',
        b"NaN",
        b"9" * 30,
    ]
    for round_ in range(12):
        rows = [
            b'{"id": %d, "at": %b, "x": %b, %b: 1}'
            % (number, chance.choice(odd), chance.choice(odd), chance.choice(odd[:3]))
            for number in range(3)
        ]
        rows.append(b'{"id": %b, "at": "0001-01-01T00:00:00+23:59"}' % chance.choice(odd[:3]))
        text = b'{"data": {"items": [' + b", ".join(rows) + b"]}}"
        found = night(
            project / str(round_),
            source({"pages": "link", "changed": "at"}, max_failed=1.0),
            lambda request, text=text: web.Response(body=text, content_type="application/json"),
        )
        assert {"0", "1", "2"} <= bodies(project / str(round_)).keys(), found.reasons


def test_a_wait_past_the_night_leaves_the_api_for_the_next_night(project: Path) -> None:
    answer = night(project, source({"pages": "page"}), shop("page"))
    answer.stay_away(3_600.0)
    asked: list[str] = []
    with pytest.raises(Fault, match=r"asks to be left alone for 3[56]\d\d s more"):
        night(project, source({"pages": "page"}), shop("page"), asked)
    assert asked == [] and len(bodies(project)) == 7
