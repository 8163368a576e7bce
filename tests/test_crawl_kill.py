"""Whatever a night was doing when it was killed, nothing is lost.

Nothing is stored twice, and no host is asked too soon.
"""

import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from tests.conftest import HERE
from tests.support.site import Ask, Reply, Web, html, night, pages, source
from tidemill.engines.config.schema import Source
from tidemill.records import warc


def started(
    folder: Path, web: Web, wanted: Source, die: tuple[str, str, int] | None = None, **more: object
) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.site.night"],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(
        json.dumps(
            {
                "folder": str(folder),
                "mirrors": web.mirrors,
                "source": wanted.model_dump(mode="json"),
                "settings": more,
                "die": die,
            }
        )
    )
    child.stdin.close()
    return child


def ended(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    child.stdout.read()
    child.stdout.close()
    return child.wait(60)


def tree(ask: Ask) -> Reply | None:
    """A host of 121 pages, three links on each."""
    try:
        number = int(ask.path[1:] or 0)
    except ValueError:
        return None
    return Reply(
        html(
            f"page {number} " + "words " * 200,
            *(f"/{number * 3 + child}" for child in (1, 2, 3) if number * 3 + child <= 120),
        ).encode()
    )


def stored(folder: Path) -> Counter[str]:
    """How often each page is in the segments, as another reader reads them."""
    found: Counter[str] = Counter()
    for segment in (folder / "raw").glob("*.warc.gz"):
        with segment.open("rb") as file:
            found.update(
                record.rec_headers["WARC-Target-URI"]
                for record in ArchiveIterator(file, check_digests="raise")
                if record.rec_type == "response"
            )
    return found


def whole(folder: Path) -> None:
    """All pages are there, each once, in segments and manifest alike, and nothing half is left."""
    wanted = {f"http://a.localhost/{number or ''}" for number in range(121)}
    assert stored(folder) == Counter(wanted)
    rows = warc.manifest(folder / "raw")
    assert rows.keys() == wanted and {row["status"] for row in rows.values()} == {200}
    assert {
        row["uri"] for row, body in warc.bodies(folder / "raw", rows.values()) if b"words" in body
    } == wanted
    assert not list((folder / "raw").glob(".*"))


POINTS = [
    ("commit", "before", 3),
    ("commit", "after", 2),
    ("take", "after", 2),
    ("sync", "before", 2),
    ("sync", "after", 2),
    ("add", "after", 40),
    ("close", "before", 1),
    ("close", "after", 1),
    ("merge", "before", 1),
    ("merge", "after", 1),
    ("table", "before", 1),
    ("table", "after", 2),
    ("published", "before", 1),
    ("published", "after", 1),
    ("end", "after", 1),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[1]}-{point[0]}-{point[2]}")
def test_a_night_killed_at_a_point_goes_on_where_it_was(
    tmp_path: Path, point: tuple[str, str, int]
) -> None:
    wanted = source("http://a.localhost/", depth=9, connections=4)
    with Web(a=tree) as web:
        assert ended(started(tmp_path, web, wanted, point)) == -9
        night(tmp_path, web, wanted)
        whole(tmp_path)


def killed_again_and_again(folder: Path, times: int, seed: int) -> None:
    """A night with a gap between requests, killed at random moments, often enough."""
    random.seed(seed)
    wanted = source("http://a.localhost/", depth=9, delay_s=0.05, revisit_days=(1.0, 30.0))
    with Web(a=tree) as web:
        for _ in range(times):
            child = started(folder, web, wanted)
            before = len(web.asked)
            while len(web.asked) == before and child.poll() is None:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.6))
            child.kill()
            ended(child)
        assert ended(started(folder, web, wanted)) == 0
        whole(folder)
        times_asked = web.times()
        assert min(after - before for before, after in pairwise(times_asked)) >= 0.049
        again = Counter(web.paths())
        assert (
            sum(again.values()) - len(again) <= times
        )  # what was in flight is asked for once more, and nothing else


def test_a_night_killed_at_random_keeps_its_gap_and_loses_nothing(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, 3, 1)


@pytest.mark.system
@pytest.mark.parametrize("seed", range(10))
def test_a_night_killed_twenty_times_keeps_its_gap_and_loses_nothing(
    tmp_path: Path, seed: int
) -> None:
    killed_again_and_again(tmp_path, 20, seed)


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_a_cut_segment_is_repaired_to_its_last_whole_record(tmp_path: Path, cut: int) -> None:
    wanted = source("http://a.localhost/", depth=9)
    with Web(a=tree) as web:
        assert ended(started(tmp_path, web, wanted, ("close", "before", 1))) == -9
        (left,) = (tmp_path / "raw").glob(".*.open")
        with left.open("r+b") as file:
            file.truncate(
                left.stat().st_size - cut
            )  # as a file system may, that had not all of it on disk
        (tmp_path / "state" / "frontier.db").unlink()  # and the frontier is gone with it
        for rest in (tmp_path / "state").glob("frontier.db-*"):
            rest.unlink()
        before = len(web.paths())
        night(tmp_path, web, wanted)
        whole(tmp_path)
        assert len(web.paths()) - before <= 3  # the page that was cut, and no other


def test_a_lost_or_broken_frontier_is_made_anew_from_what_was_collected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = source("http://a.localhost/", depth=9)
    with Web(a=tree) as web:
        night(tmp_path, web, wanted)
        for spoil in (
            lambda path: path.write_bytes(b"no database at all, " * 400),
            lambda path: path.unlink(),
        ):
            spoil(tmp_path / "state" / "frontier.db")
            found = night(tmp_path, web, wanted)
            assert (found.unchanged, found.fetched, found.gone) == (121, 0, 0)
            whole(tmp_path)
    assert "cannot be read" in caplog.text


def test_data_that_was_taken_away_is_collected_again_whatever_the_frontier_says(
    tmp_path: Path,
) -> None:
    wanted = source("http://a.localhost/p")
    with Web(a=pages(p=Reply(b"words", headers={"ETag": '"1"'}))) as web:
        night(tmp_path, web, wanted)
        for path in (tmp_path / "raw").iterdir():
            path.unlink()
        assert night(tmp_path, web, wanted).fetched == 1
    assert len(warc.manifest(tmp_path / "raw")) == 1


def told(folder: Path) -> bool:
    """Whether the frontier has it on disk that its host asked for patience."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{folder / 'state' / 'frontier.db'}?mode=ro", uri=True)
        ) as db:
            return any(
                next_at > time.time() + 1 for (next_at,) in db.execute("SELECT next_at FROM hosts")
            )
    except sqlite3.OperationalError:  # it is being made
        return False


def test_patience_outlives_the_process_that_was_asked_for_it(tmp_path: Path) -> None:
    def answer(ask: Ask) -> Reply | None:
        return (
            None
            if not ask.path.startswith("/p")
            else Reply(status=429, headers={"Retry-After": "4"})
        )

    wanted = source("http://a.localhost/p1", "http://a.localhost/p2")
    with Web(a=answer) as web:
        child = started(tmp_path, web, wanted, attempts=5, max_wait_minutes=1)
        while not told(tmp_path):
            time.sleep(0.02)
        child.kill()
        ended(child)
        web.hosts["a.localhost"] = pages(p1="1", p2="2")
        first = next(ask.at for ask in web.asked if ask.path.startswith("/p"))
        assert night(tmp_path, web, wanted, max_wait_minutes=1).fetched == 2
        assert web.times()[-1] - first >= 3.99 and all(
            not first < at < first + 3.99 for at in web.times()
        )


def test_the_gap_between_two_requests_holds_across_a_kill(tmp_path: Path) -> None:
    """A process starts in a second or so, so the gap is longer than that."""
    wanted = source("http://a.localhost/p", delay_s=3.0)
    with Web(a=pages(p="words")) as web:
        for _ in range(2):
            child, before = started(tmp_path, web, wanted), len(web.asked)
            while len(web.asked) == before:
                time.sleep(0.01)
            child.kill()
            ended(child)
        first, second = web.times()
    assert second - first >= 2.8  # the first may have been noticed late


@pytest.mark.system
def test_a_full_disk_ends_a_night_in_one_line_and_the_next_goes_on(tmp_path: Path) -> None:
    """Needs root: a file system of 200 KB under data/raw, which is then made larger."""
    wanted = source("http://a.localhost/", depth=9)
    (tmp_path / "raw").mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path / "raw"], check=True
    )
    try:
        with Web(
            a=lambda ask: (
                Reply(tree(ask).body + random.Random(ask.path).randbytes(4000).hex().encode())
                if tree(ask)
                else None
            )
        ) as web:
            with pytest.raises(OSError, match="No space left") as full:
                night(tmp_path, web, wanted)
            there = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
            assert not [path for path in there if path.is_relative_to(tmp_path / "raw")], (
                "the segment is let go"
            )
            del full
            subprocess.run(["mount", "-o", "remount,size=20m", tmp_path / "raw"], check=True)
            night(tmp_path, web, wanted)
            whole(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "raw"], check=True)


def test_a_frontier_made_anew_brings_back_nothing_that_was_overtaken(tmp_path: Path) -> None:
    """An old segment that no manifest names is not mistaken for one that was cut off."""
    said: dict[str, Reply | None] = {"/p": Reply(b"old words"), "/q": Reply(b"more old words")}
    wanted = source(*(f"http://a.localhost{path}" for path in said))
    with Web(a=lambda ask: said.get(ask.path)) as web:
        night(tmp_path, web, wanted)
        time.sleep(1.1)  # times are kept by the second
        said |= {"/p": Reply(b"new words"), "/q": Reply(b"more new words")}
        night(tmp_path, web, wanted)
        for path in (tmp_path / "state").glob("frontier.db*"):
            path.unlink()
        before = warc.manifest(tmp_path / "raw")
        night(tmp_path, web, wanted)
    after = warc.manifest(tmp_path / "raw")
    assert {uri: (row["status"], row["sha256"]) for uri, row in after.items()} == {
        uri: (row["status"], row["sha256"]) for uri, row in before.items()
    }
