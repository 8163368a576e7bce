"""python -m benchmarks.gpu [--minutes 2] [--size 124m] [--json]: a GPT on one GPU, killed once.

Trains `text_generation` at GPT-2's size with the same command that trains it on a processor, on
random tokens (what is measured is speed), prints tokens a second, MFU and peak memory, kills the
training, resumes it, and writes gpu-report.json.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tidemill.engines.config.load import _gpus

# Dense bf16 TFLOPS, from the makers' data sheets; another card's MFU is not told.
PEAK = {
    "H100": 989,
    "H200": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "V100": 125,
    "T4": 65,
}
BATCH = 16


def peak_tflops(card: str) -> int | None:
    """Of a card as its driver calls it, by whole words: an L40 is no L4."""
    words = re.split(r"[ _-]", card.upper())
    for name, peak in PEAK.items():
        wanted = name.split()
        if any(words[at : at + len(wanted)] == wanted for at in range(len(words))):
            return peak
    return None


def child(folder: Path, minutes: float, size: str) -> None:
    """The training itself; goes on where the folder has a checkpoint."""
    import lightning
    import numpy as np
    import torch
    from lightning.pytorch.callbacks import Callback

    from recipes.text_generation.conversations import whole
    from recipes.text_generation.corpus import Corpus
    from recipes.text_generation.data import Data
    from recipes.text_generation.network import GeneratorLearner
    from recipes.text_generation.recipe import TextGeneration
    from tidemill.contract import Run, Splits
    from tidemill.engines.config.schema import Trainer
    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept
    from tidemill.learners.lightning.resume import Stop

    class Random(Data):
        def __init__(self, recipe: TextGeneration) -> None:
            lightning.LightningDataModule.__init__(self)
            random = np.random.default_rng(1)
            self.fields, self.seed, self.context = recipe, 1, recipe.shape().context
            tokens = random.integers(0, recipe.shape().vocabulary, size=4_000_000)
            self.mixed = None
            held = tokens[: 4 * self.context + 1]
            self.train, self.valid = (
                Corpus.of([whole(ids)], chars=len(ids) - 1) for ids in (tokens, held)
            )

    class RandomLearner(GeneratorLearner):
        def load_data(self) -> Data:
            return Random(self.recipe)

    class Speed(Callback):
        def __init__(self) -> None:
            self.began, self.first = 0.0, 0

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if not self.first:
                torch.cuda.synchronize()
                self.began, self.first = time.monotonic(), trainer.global_step

        def on_train_end(self, trainer: Any, *args: Any) -> None:
            torch.cuda.synchronize()
            size_ = recipe.shape()
            steps, took = trainer.global_step - self.first, time.monotonic() - self.began
            tokens = steps * BATCH * size_.context / max(took, 1e-9)
            card = torch.cuda.get_device_name()
            peak = peak_tflops(card)
            (folder / "report.json").write_text(
                json.dumps(
                    {
                        "card": card,
                        "parameters": size_.parameters(),
                        "steps": steps,
                        "tokens_per_s": round(tokens),
                        "resumed_at": kept.resumed_at,
                        "mfu": round(tokens * size_.flops() / peak / 1e12, 3) if peak else None,
                        "peak_mb": round(torch.cuda.max_memory_allocated() / 1e6),
                    }
                )
            )

    recipe = TextGeneration(size=size, batch=BATCH, steps=1_000_000, optimiser="adamw", lr=6e-4)
    settings = Trainer(
        accelerator="gpu",
        devices=1,
        strategy="auto",
        precision="bf16-mixed",
        deterministic=False,
        max_epochs=1,
        gradient_clip=1.0,
        budget_minutes=minutes,
        checkpoint_minutes=0.25,
    )
    kept = Kept(Checkpoints(folder / "checkpoints", {"of": f"gpu {size}"}), Stop().listen())
    learner = RandomLearner(recipe, Splits(folder, 1))
    learner.fit(Run(settings, 1, 1, f"gpt {size}", kept=kept, callbacks=[Speed()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--size", default="124m")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.minutes, asked.size)
        return
    if not _gpus():
        print(
            "error: make gpu needs a GPU and this machine has none; make test is what runs here",
            file=sys.stderr,
        )
        sys.exit(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--child",
            str(folder),
            "--minutes",
            str(asked.minutes),
            "--size",
            asked.size,
        ]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60 * asked.minutes
        while (
            not list(folder.glob("checkpoints/*.sha256"))
            and first.poll() is None
            and time.monotonic() < until + 120
        ):
            time.sleep(0.5)
        killed = first.poll() is None
        if killed:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        report = {**json.loads((folder / "report.json").read_text()), "killed": killed}
    Path("gpu-report.json").write_text(json.dumps(report, indent=1) + "\n")
    if asked.json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key:14} {value}")


if __name__ == "__main__":
    main()
