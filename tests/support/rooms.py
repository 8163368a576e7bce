"""A project of one small web source, for the tests of clean and select: real WARC segments, the
real code.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tidemill.records import warc
from tidemill.text import normal

HERE = Path(__file__).resolve().parents[2]
WORDS = [
    line.split()[0]
    for line in (
        "river mill wheel stone water night grain flour tide harbour bread baker village market "
        "morning winter summer road bridge field farmer window garden letter story "
        "teacher children school music song dance friend dinner kitchen table lamp paper pencil "
        "picture museum station train engine driver ticket journey mountain valley forest "
        "people write carry measure open gather follow answer remember build repair paint travel "
        "listen borrow return explain describe collect prepare finish begin wonder believe"
    )
    .replace(" ", "\n")
    .splitlines()
]


def sentence(random_: random.Random, words: int = 12) -> str:
    chosen = [random_.choice(WORDS) for _ in range(words)]
    return (
        "The "
        + " ".join(chosen[: words // 2])
        + " and the "
        + " ".join(chosen[words // 2 :])
        + " that was with them."
    )


def prose(seed: int, sentences: int = 8) -> list[str]:
    random_ = random.Random(seed)
    return [" ".join(sentence(random_) for _ in range(2)) for _ in range(sentences)]


def shingles(body: str) -> list[str]:
    """What tidemill/text/shingles.py makes numbers of: 3 words, or 4 letters in a script without
    spaces.
    """
    words = normal.same(body).split()
    if normal.unspaced(words):
        letters = "".join(words)
        return (
            [letters[at : at + 4] for at in range(len(letters) - 3)] if len(letters) >= 12 else []
        )
    return [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]


def html(number: int, version: int = 1) -> bytes:
    """A page of a site: the same head, menu and foot on each, and its own paragraphs."""
    own = "".join(f"<p>{line}</p>" for line in prose(number * 1000 + version))
    return (
        f"<!doctype html><html lang=en><head><title>Page {number}</title></head><body><div "
        "class='top'><a href='/'>Home of the mill</a> <a href='/a'>All the news of it</a></div>"
        f"<main><h1>Page {number} of the mill</h1>{own}</main><div class='end'><p>This site "
        "belongs to the millers of the harbour, who keep all rights.</p></div></body></html>"
    ).encode()


# Moments of a clock are others on each machine, and a step may be over before them; calls of our
# own code come in every run.
COUNTED = """
import os, runpy, signal, sys
last, calls = int(sys.argv[1]), 0

def call(frame, event, of):
    global calls
    if event in ("call", "c_call") and "/tasks/" in frame.f_code.co_filename:
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

def leave(code, leave=os._exit):
    sys.setprofile(None)
    print(calls, file=sys.stderr, flush=True)
    leave(code)

os._exit = leave      # as a step ends
sys.argv = sys.argv[2:]
sys.setprofile(call)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Room:
    def __init__(self, folder: Path, **source: object) -> None:
        self.folder = folder
        (folder / "conf" / "source").mkdir(parents=True)
        for name in ("tidemill", "tasks", "recipes"):
            (folder / name).symlink_to(HERE / name)
        for name in ("config.yaml", "runtime", "trainer", "recipe", "quality"):
            whole = HERE / "conf" / name
            (shutil.copytree if whole.is_dir() else shutil.copy)(whole, folder / "conf" / name)
        self.source = {
            "kind": "web",
            "licence": "CC0-1.0",
            "hosts": ["mill.example"],
            "seeds": ["http://mill.example/"],
            "selector": [{"kind": "page", "name": "page"}],
            "clean": {"min_letters": 20},
            **source,
        }
        self.say()

    def say(self, **change: object) -> None:
        self.source |= change
        (self.folder / "conf" / "source" / "mill.yaml").write_text(yaml.safe_dump(self.source))

    def processes(self, number: int) -> None:
        (self.folder / "conf" / "runtime" / "local.yaml").write_text(
            f"kind: local\nprocesses: {number}\n"
        )

    @property
    def raw(self) -> Path:
        return self.folder / "data" / "raw" / "mill"

    @property
    def out(self) -> Path:
        return self.folder / "data" / "clean" / "mill"

    def collect(
        self,
        pages: dict[str, bytes],
        fetched: str = "2026-11-25T03:00:00Z",
        media: str = "text/html",
        charset: str | None = None,
        signals: str | None = None,
    ) -> None:
        """Add or replace pages: a segment more, and the manifest over all."""
        self.raw.mkdir(parents=True, exist_ok=True)
        rows = warc.manifest(self.raw)
        segment = warc.Segment(self.raw, "test")
        for uri, body in pages.items():
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            offset = segment.add(uri, head, body, fetched)
            rows[uri] = {
                "uri": uri,
                "fetched": fetched,
                "status": 200,
                "media": media,
                "charset": charset,
                "etag": None,
                "modified": None,
                "sha256": hashlib.sha256(body).hexdigest(),
                "raw_file": segment.name,
                "raw_locator": str(offset),
                "signals": signals,
            }
        segment.close()
        warc.save_manifest(self.raw, rows.values())

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **env},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def calls(self, *arguments: str) -> int:
        """Run a step to its end; the calls that its main thread made, of our code and by it."""
        done = self._counted(0, *arguments)
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split()[-1])

    def killed(self, call: int, *arguments: str) -> bool:
        """Run a step that is killed by -9 at its `call`-th call; whether it came that far."""
        return self._counted(call, *arguments).returncode == -signal.SIGKILL

    def _counted(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", COUNTED, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def forbid_sockets(self) -> None:
        """From now on every Python that starts here refuses to open a socket or to look a name up,
        and notes that it was asked.
        """
        (self.folder / "sitecustomize.py").write_text(
            "import socket, pathlib\n"
            "here = pathlib.Path(__file__).parent\n"
            "(here / 'loaded').open('a').write('x')\n"
            "def no(*a, **k):\n    (here / 'opened').touch()\n    raise OSError('no network "
            "here')\n"
            "class Forbidden(socket.socket):\n    __init__ = no\n"
            "socket.socket, socket.getaddrinfo = Forbidden, no\n"
        )

    def digests(self, kind: str = "clean", name: str = "mill") -> dict[str, str]:
        folder = self.folder / "data" / kind / name
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
            if path.suffix in (".parquet", ".json")
        }

    def report(self) -> dict:
        return json.loads((self.out / "report.json").read_text())


def site(pages: int, version: int = 1) -> dict[str, bytes]:
    return {f"http://mill.example/{number}": html(number, version) for number in range(pages)}
