"""Each way a page says no, case by case; the drafts' own examples are among them.

Also that a no is heard, even one said later.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.clean.__main__ import reason
from tasks.clean.read import documents
from tests.support.site import Ask, Reply, Web, html, night, pages, settings, source
from tidemill.engines.config import general
from tidemill.engines.config.schema import OptOut
from tidemill.records import warc
from tidemill.web import optout
from tidemill.web.optout import Signal, decide, of_headers, of_page, of_site, preferences, says

YES, NO, SILENT = True, False, None
AT = "http://a.example"

USAGE = [  # AIPREF vocab-08, 6 and 7: the text, what it says of train-ai
    ("train-ai=y, search=n", YES),
    ("train-ai=n", NO),
    ("search=y", SILENT),
    ("", SILENT),
    ('train-ai=y, train-ai, search=n, search="n"', SILENT),
    ("train-ai;allow=n, train-ai=y", YES),
    ('train-ai;has;parameters="?";', SILENT),
    ("train-ai", SILENT),
    ('train-ai="n"', SILENT),
    ("train-ai=?0", SILENT),
    ("train-ai=1", SILENT),
    ("train-ai=N", SILENT),
    ("train-ai=no", SILENT),
    ("TRAIN-AI=n", SILENT),
    ('train-ai=n;why="because"', NO),
    ("train-ai=n ; x=1", SILENT),
    ("train-ai=y, train-ai=n", NO),
    ("train-ai=n, train-ai=y", YES),
    ("unknown=(a b);c=1, train-ai=n", NO),
    ("train-ai=n,", SILENT),
    ("train-ai = n", SILENT),
    ("=n", SILENT),
    ("train-ai=n search=y", SILENT),
    ("  train-ai=n  ", NO),
    ("train-ai=n\t,\tsearch=y", NO),
    ("a=:aGk=:, b=@1659578233, c=-1.5, train-ai=n", NO),
    ("train-ai=n, \u00fc=y", SILENT),
    ("all=n", NO),
    ("train-genai=n", NO),
    ("bots=n, train-ai=y", NO),
    ("*=n", SILENT),  # what earlier drafts named
]
SIGNAL = [  # Content-Signal
    ("search=yes, ai-input=no, ai-train=no", NO),
    ("search=yes,ai-train=no", NO),
    ("ai-train=yes", YES),
    ("search=yes", SILENT),
    ("ai-train=maybe", SILENT),
    ("AI-Train=No", NO),
    ("", SILENT),
    ("ai-input=no", SILENT),
    ("ai-train", SILENT),
    ("ai-train = no", NO),
    ("search=yes; ai-train=no", NO),
    ("search=yes ai-train=no", NO),
    ("ai-train: no", NO),
    ('search="yes", ai-train="no"', NO),
    ("ai-train=yes; ai-train=no", NO),
    ("ai-train=nobody", SILENT),
    ("no-ai-train=no", SILENT),
]
TDM = [
    ("1", NO),
    ("0", YES),
    ("2", SILENT),
    ("true", SILENT),
    ("", SILENT),
    (" 1 ", NO),
    ("-1", SILENT),
    ('"1"', NO),
    ("1; policy=https://a.example/p.json", NO),
    ("0; 1", YES),
]
TAGS = [  # X-Robots-Tag
    ("noai", ["noai"]),
    ("noindex, nofollow", ["noindex"]),
    ("NOAI, NoImageAI", ["noai", "noimageai"]),
    ("otherbot: noindex, noai", []),
    ("tidemill: noai", ["noai"]),
    ("Tidemill: noai", ["noai"]),
    ("googlebot: nofollow, tidemill: noai", ["noai"]),
    ("tidemill: nofollow, googlebot: noai", []),
    ("none", ["noindex"]),
    ("all", []),
    ("unavailable_after: 25 Jun 2010 15:00:00 PST", []),
    ("max-snippet: 20, noai", ["noai"]),
    ("", []),
    ("*: noai", ["noai"]),
    ("noindex, unavailable_after: 25 Jun 2030 15:00:00 PST, noai", ["noindex", "noai"]),
    ("noaiplease", []),
]
METAS = [
    ([("robots", "noai, noimageai")], ["noai", "noimageai"]),
    ([("ROBOTS", "NOAI")], ["noai"]),
    ([("tidemill", "noai")], ["noai"]),
    ([("googlebot", "noai")], []),
    ([("robots", "index, follow")], []),
    ([("robots", "none")], ["noindex"]),
    ([("robots", "noai noindex")], ["noai", "noindex"]),
    ([("tdm-reservation", "1")], ["tdm-reservation"]),
    ([("TDM-Reservation", " 1 ")], ["tdm-reservation"]),
    ([("description", "noai")], []),
    ([("robots", "noindex"), ("robots", "noai")], ["noindex", "noai"]),
]
ATTACH = (
    b"User-Agent: *\nAllow: /\nDisallow: /never/\nContent-Usage: train-ai=n\n"
    b"Content-Usage: /ai-ok/ train-ai=y\n\nUser-Agent: ExampleBot\nAllow: /\n"
    b"Content-Usage: train-ai=y\n"
)  # AIPREF attach-05, 3.4
SITES = [  # file, its text, token, path, what it says
    ("robots.txt", ATTACH, "tidemill", "/test", ["content-usage no"]),
    ("robots.txt", ATTACH, "tidemill", "/ai-ok/test", ["content-usage yes"]),
    ("robots.txt", ATTACH, "tidemill", "/never/test", ["robots.txt no", "content-usage no"]),
    ("robots.txt", ATTACH, "ExampleBot", "/test", ["content-usage yes"]),
    (
        "robots.txt",
        b"User-agent: *\nContent-Usage: /a train-ai=n\nContent-Usage: /a/b train-ai=y\n",
        "t",
        "/a/b/c",
        ["content-usage yes"],
    ),
    (
        "robots.txt",
        b"User-agent: *\nContent-Usage: /a train-ai=n\nContent-Usage: /a train-ai=y\n",
        "t",
        "/a",
        ["content-usage no", "content-usage yes"],
    ),
    (
        "robots.txt",
        b"User-agent: *\nContent-Usage: /a\ttrain-ai=n\n",
        "t",
        "/a",
        ["content-usage no"],
    ),
    (
        "robots.txt",
        b"User-agent: *\nContent-Usage: /*.jpg$ train-ai=n\n",
        "t",
        "/x.jpg",
        ["content-usage no"],
    ),
    ("robots.txt", b"User-agent: *\nContent-Usage: /*.jpg$ train-ai=n\n", "t", "/x.png", []),
    ("robots.txt", b"Content-Usage: train-ai=n\n", "t", "/", []),
    (
        "robots.txt",
        b"User-agent: *\nContent-Usage : train-ai=n # no\n",
        "t",
        "/",
        ["content-usage no"],
    ),
    ("robots.txt", b"User-agent: x\nContent-Usage: train-ai=n\n", "t", "/", []),
    (
        "robots.txt",
        b"User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n",
        "t",
        "/x",
        ["content-signal no"],
    ),
    (
        "robots.txt",
        b"User-agent: *\nContent-Signal: /open/ ai-train=yes\nContent-Signal: ai-train=no\n",
        "t",
        "/open/x",
        ["content-signal yes"],
    ),
    (
        "robots.txt",
        b"User-agent: x\nContent-Signal: ai-train=no\nUser-agent: *\nAllow: /\n",
        "t",
        "/x",
        [],
    ),
    (
        "tdmrep.json",
        b'[{"location": "/", "tdm-reservation": 1}]',
        "t",
        "/x",
        ["tdm-reservation no"],
    ),
    (
        "tdmrep.json",
        (
            b'[{"location": "/directory-a/", "tdm-reservation": 1}, '
            b'{"location": "/directory-b/images/*.jpg", "tdm-reservation": 0}]'
        ),
        "t",
        "/directory-a/x",
        ["tdm-reservation no"],
    ),
    (
        "tdmrep.json",
        (
            b'[{"location": "/directory-a/", "tdm-reservation": 1}, '
            b'{"location": "/directory-b/images/*.jpg", "tdm-reservation": 0}]'
        ),
        "t",
        "/directory-b/images/x.jpg",
        ["tdm-reservation yes"],
    ),
    ("tdmrep.json", b'[{"location": "/a", "tdm-reservation": 1}]', "t", "/b", []),
    (
        "tdmrep.json",
        b'[{"location": "/", "tdm-reservation": 1}, {"location": "/a/", "tdm-reservation": 0}]',
        "t",
        "/a/b",
        ["tdm-reservation yes"],
    ),
    ("tdmrep.json", b'{"location": "/", "tdm-reservation": 1}', "t", "/", []),
    ("tdmrep.json", b"<html>", "t", "/", []),
    (
        "tdmrep.json",
        b'[{"location": "/this/path/exactly$", "tdm-reservation": 1}]',
        "t",
        "/this/path/exactly/not",
        [],
    ),
    (
        "tdmrep.json",
        b'[{"location": "/", "tdm-reservation": true}]',
        "t",
        "/",
        ["tdm-reservation no"],
    ),
    ("tdmrep.json", b'[{"location": 1}, 2, null]', "t", "/", []),
    (
        "tdmrep.json",
        b'[{"location": "/", "tdm-reservation": "1", "tdm-policy": "https://a.example/p.json"}]',
        "t",
        "/",
        ["tdm-reservation no"],
    ),
    ("ai.txt", b"User-Agent: *\nDisallow: /\n", "t", "/x", ["ai.txt no"]),
    ("ai.txt", b"User-Agent: *\nDisallow: *.jpg\nAllow: /\n", "t", "/x.jpg", ["ai.txt no"]),
    ("ai.txt", b"User-Agent: *\nDisallow: *.jpg\nAllow: /\n", "t", "/x.txt", ["ai.txt yes"]),
    ("ai.txt", b"<html>no</html>", "t", "/", []),
    ("ai.txt", b"# nothing\n", "t", "/", []),
]
RSL = [  # RSL 1.0: the inside of <rsl>, path, what it says
    (
        (
            '<content url="/"><license><prohibits type="usage">ai-train</prohibits></license>'
            "</content>"
        ),
        "/x",
        ["no"],
    ),
    (
        '<content url="/"><license><permits type="usage">search</permits></license></content>',
        "/x",
        ["no"],
    ),
    (
        (
            '<content url="/"><license><permits type="usage">ai-train search</permits></license>'
            "</content>"
        ),
        "/x",
        ["yes"],
    ),
    (
        (
            '<content url="/"><license><permits type="usage">train-ai</permits>'
            '<payment type="subscription"/></license></content>'
        ),
        "/x",
        ["no"],
    ),
    ('<content url="/"><license><payment type="free"/></license></content>', "/x", ["unknown"]),
    (
        '<content url="/a/"><license><prohibits type="usage">all</prohibits></license></content>',
        "/b",
        [],
    ),
    (
        (
            '<content url="/"><license><prohibits type="usage">ai-train</prohibits></license>'
            '</content><content url="/open/"><license><permits type="usage">all</permits>'
            "</license></content>"
        ),
        "/open/x",
        ["yes"],
    ),
    (
        (
            '<content url="https://other.example/"><license>'
            '<prohibits type="usage">all</prohibits></license></content>'
        ),
        "/x",
        [],
    ),
    (
        '<content url="/"><license><permits type="user">commercial</permits></license></content>',
        "/x",
        ["unknown"],
    ),
    (
        '<content url="/*.pdf"><license><prohibits>ai-train,search</prohibits></license></content>',
        "/a.pdf",
        ["no"],
    ),
]


@pytest.mark.parametrize(("text", "wanted"), USAGE)
def test_content_usage(text: str, wanted: bool | None) -> None:
    assert says(Signal("content-usage", "header", text)) is wanted, preferences(text)


@pytest.mark.parametrize(("text", "wanted"), SIGNAL)
def test_content_signal(text: str, wanted: bool | None) -> None:
    assert says(Signal("content-signal", "robots.txt", text)) is wanted


@pytest.mark.parametrize(("text", "wanted"), TDM)
def test_tdm_reservation(text: str, wanted: bool | None) -> None:
    (found,) = of_headers([("TDM-Reservation", text)], "tidemill")
    assert says(found) is wanted


@pytest.mark.parametrize(("value", "wanted"), TAGS)
def test_x_robots_tag(value: str, wanted: list[str]) -> None:
    assert [item.signal for item in of_headers([("X-Robots-Tag", value)], "tidemill")] == wanted


@pytest.mark.parametrize(("metas", "wanted"), METAS)
def test_meta_tags(metas: list[tuple[str, str]], wanted: list[str]) -> None:
    assert [item.signal for item in of_page(metas, "tidemill")] == wanted


@pytest.mark.parametrize(("name", "text", "token", "path", "wanted"), SITES)
def test_what_a_sites_files_say(
    name: str, text: bytes, token: str, path: str, wanted: list[str]
) -> None:
    found = of_site({name: text}, AT + path, token)
    assert [
        f"{item.signal} { {True: 'yes', False: 'no', None: 'nothing'}[says(item)] }"
        for item in found
    ] == wanted
    assert all(len(item.sha256) == 64 for item in found)


@pytest.mark.parametrize(("inside", "path", "wanted"), RSL)
def test_rsl(inside: str, path: str, wanted: list[str]) -> None:
    body = f'<rsl xmlns="https://rslstandard.org/rsl">{inside}</rsl>'.encode()
    assert [
        item.value.partition(":")[0]
        for item in of_site({f"{AT}/license.xml": body}, AT + path, "t")
    ] == wanted
    assert (
        of_site({f"{AT}/license.xml": body[:-9]}, AT + path, "t") == []
    )  # not XML: nothing is said


def test_there_are_at_least_150_cases() -> None:
    from tests.support.robots_cases import CASES, OURS

    assert (
        len(USAGE) + len(SIGNAL) + len(TDM) + len(TAGS) + len(METAS) + len(SITES) + len(RSL) >= 100
    )
    assert (
        len(USAGE)
        + len(SIGNAL)
        + len(TDM)
        + len(TAGS)
        + len(METAS)
        + len(SITES)
        + len(RSL)
        + len(CASES)
        + len(OURS)
        >= 170
    )


def test_the_most_restrictive_signal_wins_and_the_policy_says_whose_no_is_heard() -> None:
    yes, no = Signal("content-usage", "header", "train-ai=y"), Signal("noai", "page", "noai")
    assert (
        not decide([yes, no], OptOut()).allowed
        and decide([yes], OptOut()).allowed
        and decide([], OptOut()).allowed
    )
    assert decide([yes, no], OptOut(heed=("content-usage",))).allowed
    strict = OptOut(unknown="refused")
    assert decide([yes], strict).allowed and not decide([], strict).allowed


def test_of_tdmreps_three_places_the_most_specific_counts() -> None:
    file, header, page = (
        Signal("tdm-reservation", where, value)
        for where, value in (("tdmrep.json", "1"), ("header", "0"), ("page", "1"))
    )
    assert (
        not decide([file], OptOut()).allowed
        and decide([file, header], OptOut()).allowed
        and not decide([file, header, page], OptOut()).allowed
    )
    assert not decide(
        [file, Signal("tdm-reservation", "header", "7")], OptOut()
    ).allowed  # a protocol error is no word


def test_signals_come_back_as_they_were_kept_and_old_manifests_are_read() -> None:
    kept = [
        Signal("noai", "header", "noai"),
        Signal("content-usage", "robots.txt", "train-ai=y", "f" * 64),
    ]
    assert (
        optout.read(optout.written(kept)) == kept
        and optout.written([]) is None
        and optout.read(None) == []
    )
    assert (
        not decide(optout.read("noindex, nofollow"), OptOut()).allowed
        and decide(optout.read("max-snippet: 5"), OptOut()).allowed
    )


# At a crawl, and after it -------------------------------------------------------------------------


def decisions(folder: Path) -> dict[str, dict]:
    rows = pq.read_table(folder / "raw" / "decisions.parquet").to_pylist()
    assert len({row["uri"] for row in rows}) == len(rows)
    return {row["uri"].rsplit("/", 1)[1]: row for row in rows}


def test_a_page_that_refuses_is_not_stored_and_each_address_has_one_decision(
    tmp_path: Path,
) -> None:
    with Web(
        a=pages(
            robots=(
                "User-agent: *\nDisallow: /dis\nContent-Usage: /usage train-ai=n\n"
                "Content-Usage: /open train-ai=y\nLicense: /rsl.xml\n"
            ),
            tdmrep='[{"location": "/tdm", "tdm-reservation": 1}]',
            ai_txt="User-agent: *\nDisallow: /art\nAllow: /\n",
            dis="d",
            usage="u",
            tdm="t",
            tdm0=Reply(b"t", headers={"tdm-reservation": "0"}),
            art="a",
            paid="p",
            open="open",
            plain="plain",
            header=Reply(b"h", headers={"X-Robots-Tag": "noai"}),
            signal=Reply(b"s", headers={"Content-Usage": "train-ai=n"}),
            meta=html("m", head='<meta name="robots" content="noai">'),
            link=Reply(
                b"l",
                headers={
                    "Link": (
                        '</next>; rel="next", </by-link.xml>; rel="license"; '
                        'type="application/rsl+xml"'
                    )
                },
            ),
            head=html(
                "h", head='<link rel="license" type="application/rsl+xml" href="/by-head.xml">'
            ),
            **{
                f"by-{name}.xml": (
                    f'<rsl xmlns="https://rslstandard.org/rsl"><content url="/{name}"><license>'
                    '<prohibits type="usage">ai-train</prohibits></license></content></rsl>'
                )
                for name in ("link", "head")
            },
            other=Reply(b"o", headers={"X-Robots-Tag": "otherbot: noai"}),
            **{
                "rsl.xml": (
                    '<rsl xmlns="https://rslstandard.org/rsl"><content url="/paid"><license>'
                    '<permits type="usage">train-ai</permits><payment type="purchase"/></license>'
                    "</content></rsl>"
                )
            },
        )
    ) as web:
        names = (
            "link",
            "head",
            "dis",
            "usage",
            "tdm",
            "tdm0",
            "art",
            "paid",
            "open",
            "plain",
            "header",
            "signal",
            "meta",
            "other",
        )
        wanted = source(*(f"http://a.localhost/{name}" for name in names))
        found = night(tmp_path, web, wanted)
        assert not {"/dis", "/usage", "/art", "/paid"} & set(
            web.paths()
        )  # what a site's files refuse is not even asked for
    said = decisions(tmp_path)
    assert {name: row["decision"] for name, row in said.items()} == {
        name: "allowed" if name in ("tdm0", "open", "plain", "other") else "refused"
        for name in names
    }
    assert said["usage"]["reason"] == "content-usage (robots.txt): train-ai=n" and said["paid"][
        "reason"
    ].startswith("rsl (http://a.localhost/rsl.xml): no: asks for payment")
    assert {uri.rsplit("/", 1)[1] for uri in warc.manifest(tmp_path / "raw")} == {
        "tdm0",
        "open",
        "plain",
        "other",
    }
    assert (found.fetched, found.refused) == (4, 10)
    assert {
        row["name"]: row["status"]
        for row in pq.read_table(tmp_path / "raw" / "hosts.parquet").to_pylist()
    } == {
        "ai.txt": 200,
        "robots.txt": 200,
        "tdmrep.json": 200,
        **{f"http://a.localhost/{name}.xml": 200 for name in ("rsl", "by-link", "by-head")},
    }
    for segment in (tmp_path / "raw").glob("*.warc.gz"):
        assert b"noai" not in segment.read_bytes()


def cleaned(folder: Path) -> dict[str, str | None]:
    """What the clean step says of each stored page: None, or why it is dropped."""
    stated = optout.Stated(warc.statements(folder / "raw"), settings())
    rows = [
        {**row, "signals": stated.now(row["uri"], row["signals"])}
        for row in warc.manifest(folder / "raw").values()
        if row["status"] == 200
    ]
    wanted = source("http://a.localhost/x")
    return {
        row["uri"].rsplit("/", 1)[1]: reason(
            wanted.clean, {**document, "opt_out": row["signals"] or ""}
        )
        for row, body in warc.bodies(folder / "raw", rows)
        for document in documents(wanted, row, body)
    }


def test_a_site_that_says_no_later_drops_out_of_the_older_pages_at_the_next_clean(
    tmp_path: Path,
) -> None:
    robots = {"text": "User-agent: *\nAllow: /\n"}
    one = Reply(b"words of one", headers={"ETag": '"1"'})
    with Web(
        a=pages(
            robots=lambda ask: Reply(robots["text"].encode(), media="text/plain"),
            one=one,
            two="words of two",
            three="three",
        )
    ) as web:
        wanted = source("http://a.localhost/one", "http://a.localhost/two")
        night(tmp_path, web, wanted)
        assert cleaned(tmp_path) == {"one": None, "two": None}
        for text, left in (
            (
                "User-agent: *\nContent-Usage: /one train-ai=n\n",
                {"one": "its site says no", "two": None},
            ),
            (
                "User-agent: *\nContent-Signal: ai-train=no\n",
                {"one": "its site says no", "two": "its site says no"},
            ),
            ("User-agent: tidemill\nDisallow: /two\n", {"one": None, "two": "its site says no"}),
            ("User-agent: *\nAllow: /\n", {"one": None, "two": None}),
        ):
            robots["text"] = text
            before = (tmp_path / "raw" / "manifest.parquet").read_bytes()
            night(
                tmp_path,
                web,
                source(
                    "http://a.localhost/three", "http://a.localhost/one", "http://a.localhost/two"
                ),
            )
            assert {
                name: why for name, why in cleaned(tmp_path).items() if name != "three"
            } == left, (text, before)


def test_a_page_that_says_no_later_leaves_the_manifest_and_comes_back_when_it_says_yes(
    tmp_path: Path,
) -> None:
    headers: dict[str, str] = {}

    def answer(ask: Ask) -> Reply | None:
        return (
            Reply(b"words", headers=headers)
            if ask.path == "/p"
            else Reply(b"else")
            if ask.path == "/q"
            else None
        )

    with Web(a=answer) as web:
        wanted = source("http://a.localhost/p", "http://a.localhost/q")
        night(tmp_path, web, wanted)
        headers["X-Robots-Tag"] = "noai"
        night(tmp_path, web, wanted)
        row = warc.manifest(tmp_path / "raw")["http://a.localhost/p"]
        assert row["status"] == 451 and json.loads(row["signals"])[0]["value"] == "noai"
        del headers["X-Robots-Tag"]
        night(tmp_path, web, wanted)
        assert warc.manifest(tmp_path / "raw")["http://a.localhost/p"]["status"] == 200


def test_clean_drops_what_its_signals_refuse_and_keeps_what_they_do_not() -> None:
    document = {
        "uri": "http://a/x",
        "text": "words",
        "payload": None,
        "letters": 5,
        "language": "",
        "original": "",
        "opt_out": "",
    }
    policy = source("http://a.localhost/").clean
    assert (
        reason(policy, document) is None
        and reason(policy, {**document, "opt_out": "noindex"}) == "its site says no"
    )
    assert (
        reason(
            policy,
            {**document, "opt_out": optout.written([Signal("tdm-reservation", "header", "1")])},
        )
        == "its site says no"
    )
    assert general().optout == OptOut()


def test_a_no_stays_said_while_its_file_cannot_be_had_and_goes_with_it(tmp_path: Path) -> None:
    tdm: dict[str, Reply | None] = {
        "now": Reply(b'[{"location": "/one", "tdm-reservation": 1}]', media="application/json")
    }

    def answer(ask: Ask) -> Reply | None:
        return (
            tdm["now"]
            if ask.path == "/.well-known/tdmrep.json"
            else Reply(ask.path.encode())
            if ask.path in ("/one", "/two")
            else None
        )

    with Web(a=answer) as web:
        wanted = source("http://a.localhost/one", "http://a.localhost/two")
        for now, decision in (
            (tdm["now"], "refused"),
            (Reply(b"", 503), "refused"),
            (Reply(b"", 501), "refused"),
            (None, "allowed"),
        ):
            tdm["now"] = now
            night(tmp_path, web, wanted)
            assert decisions(tmp_path)["one"]["decision"] == decision
