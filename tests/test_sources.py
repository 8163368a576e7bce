"""tidemill sources, and sources check, on a clone with a small real source."""

import json

from tests.conftest import Clone
from tests.support.site import Reply, Web, html, pages


def files(clone: Clone) -> dict[str, bytes]:
    folders = (clone.folder / "data" / "raw", clone.folder / ".tidemill" / "collect")
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".db-shm",)
    }


def test_sources_tell_of_their_last_night_and_a_check_stores_nothing(clone: Clone) -> None:
    assert clone.run("tasks.collect", "udhr").returncode == 0
    rows = {row["source"]: row for row in json.loads(clone.tidemill("sources", "--json").stdout)}
    assert (
        rows["udhr"]["pages"],
        rows["udhr"]["fetched"],
        rows["udhr"]["failed"],
        rows["udhr"]["refused"],
    ) == (8, 8, 0, 0)
    assert rows["udhr"]["night"] and rows["django"]["night"] is None
    assert "udhr" in clone.tidemill("sources").stdout
    before = files(clone)
    told = json.loads(
        clone.tidemill(
            "sources", "check", "udhr", "http://udhr.localhost/udhr_eng.xml", "--json"
        ).stdout
    )
    assert (told["decision"], told["because"], told["files"]) == (
        "allowed",
        "nothing says no",
        {"ai.txt": 404, "robots.txt": 200, "tdmrep.json": 404},
    )
    assert files(clone) == before


def test_a_check_that_makes_no_sense_is_refused_in_one_line(clone: Clone) -> None:
    for arguments, words in (
        (("nothing", "http://a/"), "no source 'nothing'"),
        (("django", "http://a/"), "source django is of kind package"),
        (("udhr", "ftp://a/"), "'ftp://a/' is no address of http or https"),
    ):
        done = clone.tidemill("sources", "check", *arguments)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_site_is_collected_cleaned_and_heard_when_it_says_no_through_the_command_line(
    clone: Clone,
) -> None:
    """A whole night with a configuration of its own.

    A feed on a port of loopback, its pages, and a robots.txt that changes its mind.
    """
    robots = {"text": "User-agent: *\nAllow: /\n"}
    words = (
        "All human beings are born free and equal in dignity and rights. "
        "They are endowed with reason and conscience. "
    )
    with Web(
        a=pages(
            robots=lambda ask: Reply(robots["text"].encode(), media="text/plain"),
            one=html(words * 3),
            two=html(words[::-1] * 3),
            feed=lambda ask: Reply(
                (
                    f'<rss version="2.0"><channel><item><link>http://{ask.peer}/one</link></item>'
                    f"<item><link>http://{ask.peer}/two</link></item></channel></rss>"
                ).encode(),
                media="application/rss+xml",
            ),
        )
    ) as web:
        address, port = web.mirrors["a.localhost"]
        (clone.folder / "conf" / "source" / "small.yaml").write_text(
            f"kind: feed\nlicence: CC0-1.0\nhosts: [{address}]\n"
            f"seeds: ['http://{address}:{port}/feed']\nports: [{port}]\nallow_loopback: true\n"
            "delay_s: 0\nrevisit_days: [0, 0]\n"
            "selector:\n  - {kind: whole, name: page}\nclean: {min_letters: 10}\n"
        )
        done = clone.run("tasks.collect", "small")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["fetched"] == 2
        assert clone.run("tasks.clean", "small").returncode == 0
        report = clone.folder / "data" / "clean" / "small" / "report.json"
        assert json.loads(report.read_text())["rows"] == 2
        robots["text"] = "User-agent: *\nAllow: /\nContent-Usage: /two train-ai=n\n"
        assert clone.run("tasks.collect", "small").returncode == 0
        assert clone.run("tasks.clean", "small").returncode == 0
        assert (told := json.loads(report.read_text()))["rows"] == 1 and told["dropped"] == {
            "its site says no": 1
        }
        told = json.loads(
            clone.tidemill(
                "sources", "check", "small", f"http://{address}:{port}/two", "--json"
            ).stdout
        )
        assert (told["decision"], told["because"]) == (
            "refused",
            "content-usage (robots.txt): train-ai=n",
        )
        assert {
            "signal": "content-usage",
            "where": "robots.txt",
            "value": "train-ai=n",
            "says": "no",
        } in told["signals"]
        rows = {
            row["source"]: row for row in json.loads(clone.tidemill("sources", "--json").stdout)
        }
        assert (rows["small"]["pages"], rows["small"]["refused"], rows["small"]["why"]) == (
            2,
            1,
            "1 content-usage (robots.txt)",
        )
