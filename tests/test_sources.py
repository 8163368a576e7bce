"""tidemill sources, and sources check, on a clone with a small real source."""

import json

from tests.conftest import Clone


def files(clone: Clone) -> dict[str, bytes]:
    folders = (clone.folder / "data" / "raw", clone.folder / ".tidemill" / "collect")
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix not in (".db-shm",)}


def test_sources_tell_of_their_last_night_and_a_check_stores_nothing(clone: Clone) -> None:
    assert clone.run("tasks.collect", "udhr").returncode == 0
    rows = {row["source"]: row for row in json.loads(clone.tidemill("sources", "--json").stdout)}
    assert (rows["udhr"]["pages"], rows["udhr"]["fetched"], rows["udhr"]["failed"], rows["udhr"]["refused"]) == (8, 8, 0, 0)
    assert rows["udhr"]["night"] and rows["django"]["night"] is None
    assert "udhr" in clone.tidemill("sources").stdout
    before = files(clone)
    told = json.loads(clone.tidemill("sources", "check", "udhr", "http://udhr.localhost/udhr_eng.xml", "--json").stdout)
    assert (told["decision"], told["because"], told["files"]) == ("allowed", "nothing says no", {"ai.txt": 404, "robots.txt": 200, "tdmrep.json": 404})
    assert files(clone) == before


def test_a_check_that_makes_no_sense_is_refused_in_one_line(clone: Clone) -> None:
    for arguments, words in ((("nothing", "http://a/"), "no source 'nothing'"), (("django", "http://a/"), "source django is of kind package"), (("udhr", "ftp://a/"), "'ftp://a/' is no address of http or https")):
        done = clone.tidemill("sources", "check", *arguments)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
