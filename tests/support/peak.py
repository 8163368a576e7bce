"""The most memory that a training of `text_generation` takes at once, in a process of its own.

    python -m tests.support.peak '{"model": {...}}'

prints one line of JSON: the peak above what the process had before, what a plan says of it, and
seconds. `logits_at_once`, beside `model`, replaces how many logits are made at a time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import HERE

FIRST = {"layers": 1, "heads": 1, "width": 16, "context": 16, "vocabulary": 300, "batch": 1}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Whatever is freed goes back to the kernel at once, so the peak is of what is in use.
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "PYTHONPATH": str(HERE),
}


@dataclass(frozen=True)
class Peak:
    peak_mb: float
    planned_mb: float
    seconds: float


def peak(model: dict[str, Any], logits_at_once: int | None = None) -> Peak:
    """Of a training with these fields of the model."""
    asked = json.dumps({"model": model, "logits_at_once": logits_at_once})
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.peak", asked],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def train(model: dict[str, Any], rows: Path) -> tuple[dict[str, Any], float]:
    """What a plan says of a training, and its seconds."""
    from recipes.text_generation.recipe import TextGeneration
    from tests.support.hardware import HARDWARE
    from tidemill.contract import Run, Splits
    from tidemill.engines.config.schema import Trainer

    recipe = TextGeneration(**model)
    learner: Any = recipe.learner(Splits(rows, 1))
    learner.load_data()  # whose tokens are written to files, once
    began = time.monotonic()
    learner.fit(Run(Trainer(**HARDWARE), 1, 1, "test"))
    return recipe.plan(1, 1, "auto", "32-true"), time.monotonic() - began


def status(name: str) -> int:
    """A line of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(asked: dict[str, Any]) -> None:
    from recipes.text_generation import size
    from tests.support.texts import TEXTS, splits

    if asked["logits_at_once"]:
        size.LOGITS_AT_ONCE = asked["logits_at_once"]
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        Path("conf").mkdir()
        Path("conf/config.yaml").write_text("{}")
        rows = splits(Path(name), TEXTS * 200, TEXTS[:2])
        train({**FIRST, "steps": 1, "samples": 0}, rows)  # what libraries take for good
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        planned, seconds = train(asked["model"], rows)
        measured = {
            "peak_mb": (status("VmHWM") - before) / 1e6,
            "planned_mb": planned["device_mb"],
            "seconds": seconds,
        }
        os.chdir("/")
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
