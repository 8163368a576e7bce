"""How memory and processor time of the data steps grow with the documents, and what pictures take.

    python -m benchmarks.parts [clean select label split night pictures tokens]
        [--documents N] [--json]

Made texts of 1 kB, N of them at 1x (250 by default), then 4x and 16x, each step in one process of
its own. The slope is the exponent of processor seconds by size between 4x and 16x, where what a
start costs is small: 1 is in proportion. Memory is that of the largest process of a step; its
growth from 4x to 16x is what one more document takes. At 16x label and split run in two processes
too: the ratio is of wall seconds. Clean reads collected files; the others begin with what it would
have written, so that they can be measured at many texts. `pictures` are made strokes of N x 28 x 28
and N x 128 x 128 pixels: what splits and packs take, beside the pictures' own bytes. `tokens` is a
training of `text_generation` on the same texts, tokens written and read: its memory by the size of
their files. `night` is what a second night costs, in
which one page of a hundred of 16 x N changed.
"""

import argparse
import csv
import hashlib
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.rows import Row, show
from tasks.clean import __main__ as clean
from tests.support.rooms import Room
from tidemill.records.tables import CLEANED, TableWriter
from tidemill.text import normal

TIMES = (1, 4, 16)
OTHERS = ("night", "pictures", "tokens")
STEPS = {"clean": "mill", "select": "languages", "label": "languages", "split": "languages"}
A_FILE = 200  # documents of a collected file: one record is in memory at a time
SLOPE = "<= 1.25"  # sorting and growing tables cost a little more than in proportion
MEMORY = "<= 150"  # bytes a document: 1.5 GB of ten million
WORDS = 20_000
AT_ONCE = 1_000  # documents that are made


@dataclass(frozen=True)
class Cost:
    """What one step took of one size."""

    seconds: float  # of processor time
    wall: float  # seconds
    megabytes: float  # of the largest process


def texts(count: int) -> Iterator[str]:
    """Texts of about 1 kB that share no more words than chance gives them."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(WORDS)]
    for _ in range(count):
        yield " ".join(drawn.choices(words, k=145)) + "."


def table(rows: list[str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["text", "label"])
    writer.writerows((text, "deu" if number % 2 else "nld") for number, text in enumerate(rows))
    return out.getvalue().encode()


def project(folder: Path, recipe: str, selector: dict[str, object]) -> Room:
    """A project of one folder of tables, with one recipe."""
    room = Room(folder, kind="files", path="x", hosts=[], seeds=[], selector=[selector], clean={})
    for path in (folder / "conf" / "recipe").glob("*.yaml"):
        if path.stem != recipe:
            path.unlink()
    path = folder / "conf" / "recipe" / f"{recipe}.yaml"
    rule = {"source": "mill", "by": "hash", "column": "doc_id", "valid": 0.1, "test": 0.2}
    body = yaml.safe_load(path.read_text())
    body |= {"sources": [{"name": "mill"}], "select": {"kinds": []}, "label": {}}
    body["split"] = {"rules": [rule]}
    path.write_text(yaml.safe_dump(body))
    return room


def cost(room: Room, step: str, name: str) -> Cost:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", f"tasks.{step}", name]
    env = {**os.environ, "PYTHONPATH": str(room.folder), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=room.folder, env=env, stdout=log, stderr=log)
        began = time.monotonic()
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command[2:])}: {log.read().decode()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def cleaned(room: Room, documents: Iterator[str]) -> None:
    """Write what clean would write of these texts, in row groups as it closes them."""
    room.out.mkdir(parents=True)
    with TableWriter(room.out / "documents.parquet", CLEANED, clean.BATCH_MB * 2**20) as writer:
        rows: list[dict[str, object]] = []
        for number, text in enumerate(documents):
            rows.append(document(number, text))
            if len(rows) == AT_ONCE:
                writer.add(pa.Table.from_pylist(rows, CLEANED))
                rows = []
        writer.add(pa.Table.from_pylist(rows, CLEANED))


def document(number: int, text: str) -> dict[str, object]:
    """A row of what clean leaves."""
    name = hashlib.sha256(f"{number} {text}".encode()).hexdigest()[:24]
    empty: dict[str, object] = dict.fromkeys(CLEANED.names, "")
    return empty | {
        "doc_id": name,
        "uri": f"files:mill#{name}",
        "source": "mill",
        "kind": "article",
        "media": "text/csv",
        "language": "deu" if number % 2 else "nld",
        "script": "Latn",
        "letter_script": "Latn",
        "text": text,
        "payload": None,
        "blob": None,
        "attributes": "{}",
        "letters": sum(map(str.isalpha, text)),
        "chars": len(text),
        "words": text.count(" ") + 1,
        "language_score": 0.0,
        "digest": normal.digest(text),
    }


SELECTOR: dict[str, object] = {
    "kind": "table",
    "name": "article",
    "text": "text",
    "language": "label",
}


def of_clean(documents: int) -> Iterator[Row]:
    costs = []
    for times in TIMES:
        with tempfile.TemporaryDirectory() as folder:
            room = project(Path(folder) / "room", "languages", SELECTOR)
            made = [*texts(documents * times)]
            starts = range(0, len(made), A_FILE)
            files = {f"files:mill#{at}.csv": table(made[at : at + A_FILE]) for at in starts}
            room.collect(files, media="text/csv")
            costs.append(cost(room, "clean", STEPS["clean"]))
    yield from rows_of("clean", costs, documents)


def of_texts(steps: list[str], documents: int) -> Iterator[Row]:
    """Select, label and split, as far as they are asked for."""
    costs: dict[str, list[Cost]] = {step: [] for step in steps}
    two: dict[str, Cost] = {}
    last = max([*STEPS].index(step) for step in steps)
    for times in TIMES:
        with tempfile.TemporaryDirectory() as folder:
            room = project(Path(folder) / "room", "languages", SELECTOR)
            cleaned(room, texts(documents * times))
            for step in [*STEPS][1 : last + 1]:
                room.processes(1)
                used = cost(room, step, STEPS[step])
                if step in costs:
                    costs[step].append(used)
                if step in costs and step != "select" and times == TIMES[-1]:
                    room.processes(2)
                    two[step] = cost(room, step, STEPS[step])
    for step, measured in costs.items():
        yield from rows_of(step, measured, documents)
        if step in two:
            name = f"{step}: wall seconds of two processes, beside one"
            more = {"documents": documents * TIMES[-1]}
            yield Row(name, two[step].wall, measured[-1].wall, "ratio <= 0.65", more)


NIGHT = "ratio <= 0.05"  # of the first night's processor seconds
PUSHED = "ratio <= 0.10"  # of its bytes
TABLES = ("clean/mill", "select/languages", "labels/languages", "splits/languages")


def of_night(pages: int) -> Iterator[Row]:
    """A night in which one page of a hundred changed, beside the first."""
    with tempfile.TemporaryDirectory() as folder:
        room = project(Path(folder) / "room", "languages", SELECTOR)
        made = [*texts(pages)]
        changed = [f"{text} Once more." if at % 100 == 7 else text for at, text in enumerate(made)]
        nights, files = [], []
        for bodies in (made, changed):
            named = {f"files:mill#{at}.csv": table([text]) for at, text in enumerate(bodies)}
            room.collect(named, media="text/csv")
            nights.append({step: cost(room, step, STEPS[step]) for step in STEPS})
            files.append({name: size for place in TABLES for name, size in lying(room, place)})
    for step in STEPS:
        first, second = (night[step].seconds for night in nights)
        yield Row(f"{step}: processor seconds of the second night", second, first, NIGHT)
    both = [sum(used.seconds for used in night.values()) for night in nights]
    yield Row("all data steps: processor seconds of the second night", both[1], both[0], NIGHT)
    new = sum(size for name, size in files[1].items() if name not in files[0])
    yield Row("bytes that the second night pushes", new, sum(files[0].values()), PUSHED)


def lying(room: Room, place: str) -> Iterator[tuple[str, int]]:
    """The files of a table by their content, which is how they are pushed; and their bytes."""
    for path in (room.folder / "data" / place).rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            yield f"{place} {hashlib.sha256(body).hexdigest()}", len(body)


def rows_of(step: str, measured: list[Cost], documents: int) -> Iterator[Row]:
    """The two slopes of a step, with what they are made of."""
    _, middle, largest = measured
    slope = math.log(largest.seconds / middle.seconds) / math.log(TIMES[2] / TIMES[1])
    more = {"documents": documents, "seconds": [round(each.seconds, 2) for each in measured]}
    yield Row(f"{step}: slope of processor seconds by size", slope, goal=SLOPE, more=more)
    grown = (largest.megabytes - middle.megabytes) * 2**20
    a_document = grown / (documents * (TIMES[2] - TIMES[1]))
    more = {"documents": documents, "MB": [round(each.megabytes) for each in measured]}
    yield Row(f"{step}: bytes of memory for one more document", a_document, goal=MEMORY, more=more)


def strokes(count: int, side: int) -> bytes:
    """Pictures of a few bright strokes on black, one a row of a CSV, the label last."""
    drawn = np.random.default_rng(1)
    lines = []
    for number in range(count):
        pixels = np.zeros((side, side), dtype=np.uint8)
        for _ in range(3):
            row, column = drawn.integers(0, side - 3, 2)
            pixels[row : row + side // 9, column:] = drawn.integers(120, 255)
            pixels[row:, column : column + side // 9] += drawn.integers(
                0, 60, pixels[row:, column : column + side // 9].shape, dtype=np.uint8
            )
        lines.append(",".join(map(str, [*pixels.ravel().tolist(), number % 10])))
    return "\n".join(lines).encode()


def of_pictures(count: int, side: int) -> Row:
    """What splits and packs take, beside the pictures in them."""
    with tempfile.TemporaryDirectory() as folder:
        selector = {"kind": "pixels", "name": "digit", "size": [side, side]}
        room = project(Path(folder) / "room", "images", selector)
        room.collect({"files:mill#a.csv": strokes(count, side)}, media="text/csv")
        for step, name in {**dict.fromkeys(STEPS, "images"), "clean": "mill"}.items():
            cost(room, step, name)
        data = room.folder / "data"
        pictures = json.loads((data / "blobs/mill/packs.json").read_text())["bytes"]
        places = ("clean/mill", "select/images", "labels/images", "splits/images", "blobs/mill")
        sizes = {
            place: sum(path.stat().st_size for path in (data / place).iterdir()) for place in places
        }
    taken = sizes["splits/images"] + sizes["blobs/mill"]
    name = f"{count} pictures of {side} x {side}: bytes of splits and packs, beside theirs"
    return Row(name, taken, pictures, "ratio <= 1.3", {"all": sizes})


TRAINING = """
import json, resource, sys
from pathlib import Path
from recipes.text_generation.recipe import TextGeneration
from tests.support.hardware import HARDWARE
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Trainer
fields = {"layers": 1, "heads": 2, "width": 32, "context": 128, "vocabulary": 300, "batch": 16}
learner = TextGeneration(**fields, steps=100).learner(Splits(Path("splits"), 1))
learner.fit(Run(Trainer(**HARDWARE), 1, 1, "benchmark"))
files = Path(".tidemill/tokens").rglob("*")
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([sum(file.stat().st_size for file in files if file.name == "ids"),
                  used.ru_maxrss * 1024, used.ru_utime + used.ru_stime]))
"""
OF_TOKENS = "<= 0.2"  # bytes of memory a byte: 200 MB of 1 GB


def of_tokens(documents: int) -> Iterator[Row]:
    """The memory of a training by the bytes of its tokens, and its processor seconds."""
    ends = []
    for times in TIMES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "conf").mkdir()
            (folder / "conf/config.yaml").write_text("{}")
            (folder / "splits").mkdir()
            rows = pa.table(
                {"inputs": [json.dumps({"prompt": text}) for text in texts(documents * times)]}
            )
            pq.write_table(rows, folder / "splits/train.parquet")
            pq.write_table(rows.slice(0, 20), folder / "splits/valid.parquet")
            env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-c", TRAINING]
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"a training of {len(rows)} texts: {done.stderr[-2000:]}")
            ends.append(json.loads(done.stdout.splitlines()[-1]))
    (_, _, _), (few, memory, seconds), (many, more_memory, more_seconds) = ends
    more: dict[str, Any] = {"documents": documents, "MB": [round(end[1] / 2**20) for end in ends]}
    more["MB of tokens"] = [round(end[0] / 2**20, 1) for end in ends]
    name = "training: bytes of memory for one more byte of tokens"
    yield Row(name, (more_memory - memory) / (many - few), goal=OF_TOKENS, more=more)
    slope = math.log(more_seconds / seconds) / math.log(many / few)
    yield Row("training: slope of processor seconds by tokens", slope, goal=SLOPE)


def measured(steps: list[str], documents: int) -> Iterator[Row]:
    if "clean" in steps:
        yield from of_clean(documents)
    if of_text := [step for step in steps if step in STEPS and step != "clean"]:
        yield from of_texts(of_text, documents)
    if "night" in steps:
        yield from of_night(documents * TIMES[-1])
    if "pictures" in steps:
        yield from (of_pictures(documents, side) for side in (28, 128))
    if "tokens" in steps:
        yield from of_tokens(documents)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", choices=[[], *STEPS, *OTHERS], default=[])
    parser.add_argument("--documents", type=int, default=250, help="at 1x")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show(measured(given.steps or [*STEPS, *OTHERS], given.documents), given.json)


if __name__ == "__main__":
    main()
