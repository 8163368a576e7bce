"""python -m benchmarks.crawl [--rounds N] [--json]: our crawler beside Scrapy and Crawlee.

The same real pages over loopback: Python's own documentation as Debian packages it, 530 pages of 96
KB with some 22,000 links, served by one process with an ETag each. All obey robots.txt, take out
every link, follow those of the host, and have eight requests at a time. Ours also writes a WARC, a
durable frontier and the manifest. What counts is pages per second of processor, taken from after
the imports to the end, in rounds in which each has its turn. The peers live in an environment of
their own, .tidemill/peers/crawl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.rows import Row, show
from tidemill.engines.config.schema import PinnedPackage
from tidemill.engines.packages.fetch import fetch
from tidemill.records.archive import members
from tidemill.runtime.paths import root, state

PAGES = PinnedPackage(
    index="debian",
    name="python3.11-doc",
    version="3.11.2-6+deb12u9",
    file="python3.11-doc_3.11.2-6+deb12u9_all.deb",
    sha256="5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
)
PEERS = ("scrapy==2.19.0", "crawlee[parsel]==1.11.0")


def peers() -> Path:
    """The peers' interpreter; its environment is made once."""
    folder = state("peers", "crawl")
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-qqq", "--disable-pip-version-check", *PEERS],
            check=True,
        )
        (folder / "ready").touch()
    return python


def run(python: Path | str, *arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [python, root() / "benchmarks" / "crawl_peers.py", *arguments],
        cwd=root(),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root()), "PATH": "/usr/bin:/bin", "HOME": tempfile.gettempdir()},
        timeout=600,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds(start: str, count: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Each crawler's runs, in turn, so that what else the machine does falls on all of them."""
    theirs = peers()
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(count):
        cache, own = str(folder / f"scrapy-{number}"), str(folder / f"ours-{number}")
        for name, python, arguments in (
            ("ours", sys.executable, ("ours", start, own)),
            ("scrapy", theirs, ("scrapy", start, "-")),
            ("crawlee", theirs, ("crawlee", start, "-")),
            ("scrapy fills its cache", theirs, ("scrapy", start, cache)),
            ("ours again", sys.executable, ("ours", start, own)),
            ("scrapy again", theirs, ("scrapy", start, cache)),
        ):
            found.setdefault(name, []).append(run(python, *arguments))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=state()) as text:
        folder = Path(text)
        for name, body in members(fetch(PAGES), "usr/share/doc/python3.11/html/**/*.html"):
            path = folder / "site" / name.removeprefix("usr/share/doc/python3.11/html/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        with subprocess.Popen(
            [sys.executable, root() / "benchmarks" / "crawl_peers.py", "site", folder / "site"],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            try:
                found = rounds(
                    f"http://127.0.0.1:{int(server.stdout.readline())}/index.html",
                    given.rounds,
                    folder,
                )
            finally:
                server.kill()
        (folder / "frontier").mkdir()
        million = run(sys.executable, "frontier", "-", str(folder / "frontier"))
    report(found, million, given.json)


def report(
    found: dict[str, list[dict[str, float]]], million: dict[str, float], as_json: bool
) -> None:
    speed = {
        name: statistics.median(one["pages"] / one["cpu_s"] for one in runs)
        for name, runs in found.items()
    }
    rows = [
        Row(f"{title}, pages per CPU second", speed[mine], speed[other], f"ratio >= {goal}")
        for title, mine, other, goal in (
            ("crawl beside Scrapy", "ours", "scrapy", 3),
            ("crawl beside Crawlee (Parsel)", "ours", "crawlee", 1),
            ("crawl again beside Scrapy's RFC2616 cache", "ours again", "scrapy again", 10),
        )
    ]
    rows.append(Row("memory of a million addresses, MB", million["peak_mb"], goal="<= 300"))
    show(rows, as_json)
    if as_json:
        return
    for name, runs in found.items():
        print(
            f"{name:24} {runs[0]['pages']:5.0f} pages, {runs[0]['links']:6.0f} addresses "
            f"found, {speed[name]:8.0f} pages per CPU second, "
            f"{statistics.median(one['wall_s'] for one in runs):6.1f} s, "
            f"{max(one['peak_mb'] for one in runs):5.0f} MB"
        )
    print(
        f"a million addresses: {million['cpu_s']:.1f} s of processor, "
        f"{million['disk_mb']:.0f} MB on disk"
    )


if __name__ == "__main__":
    main()
