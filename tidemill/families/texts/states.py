"""What a pretrained encoder makes of texts, computed once and kept.

The states of its lower layers, which no training changes, and the mean of its last layer's states.
They lie under .tidemill/states, named by the texts, the weights and how both are read, so a second
training, a trial of a sweep or a baseline of the same snapshot computes none.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidemill.engines.packages import weights
from tidemill.families.texts import encoder
from tidemill.families.texts.windows import Windows, calls, padded
from tidemill.runtime import paths, process
from tidemill.runtime.files import digest, locked, sync_folder, tree_digest

DONE = "states.json"  # written last: with it they are whole


@dataclass(frozen=True)
class Encoding:
    """How texts become states."""

    start: str  # a name of conf/weights, or a folder
    frozen: int  # the lowest layers, whose states are kept
    context: int  # tokens of a window
    windows: int  # at most, of a text

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Encoding:
        """Of a recipe's fields."""
        folder = weights.folder(fields["start"])
        encoder.check(folder)
        layers = int(json.loads((folder / "config.json").read_text())["num_hidden_layers"])
        frozen = encoder.frozen(fields["tune"], fields["upper"], layers)
        return cls(fields["start"], frozen or 0, fields["context"], fields["windows"])

    @property
    def folder(self) -> Path:
        return weights.folder(self.start)


@dataclass(frozen=True)
class States:
    """Of W windows of n texts, N tokens in all."""

    lower: np.ndarray  # (N, D) float16, memory-mapped
    starts: np.ndarray  # (W + 1,): where each window's tokens begin
    owners: np.ndarray  # (W,): whose text it is
    pooled: np.ndarray  # (n, D) float32: means of the last layer over a text's tokens


def states(encoding: Encoding, texts: Sequence[str]) -> States:
    """Those of the texts, in their order; computed where they are not kept."""
    what = [
        tree_digest(encoding.folder),
        [encoding.frozen, encoding.context, encoding.windows],
        digest(list(texts)),
        torch.__version__,
    ]
    name = digest(what)[:16]
    path = paths.state("states", name)
    with locked(paths.state("locks", f"states-{name}")):
        if not (path / DONE).is_file():
            _computed(encoding, texts, path)
    os.utime(path / DONE)  # in use: `tidemill clean` goes by age
    arrays = {one: np.load(path / f"{one}.npy") for one in ("starts", "owners", "pooled")}
    return States(np.load(path / "lower.npy", mmap_mode="r"), **arrays)


def _computed(encoding: Encoding, texts: Sequence[str], path: Path) -> None:
    """Compute and keep them, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".states.", dir=path.parent))
    try:
        _compute(encoding, texts, part)
        (part / DONE).write_text(json.dumps({"texts": len(texts)}) + "\n")
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@torch.no_grad()
def _compute(encoding: Encoding, texts: Sequence[str], folder: Path) -> None:
    tokenizer = encoding.folder / "tokenizer.json"
    windows, owners = Windows.of(tokenizer, encoding.context, encoding.windows).cut(texts)
    lengths = np.array([len(window) for window in windows], dtype=np.int64)
    starts = np.concatenate([[0], lengths.cumsum()])
    body = encoder.pretrained(encoding.folder)
    lower, upper = encoder.halves(body.eval(), encoding.frozen)
    width = body.config.hidden_size
    kept = np.lib.format.open_memmap(
        folder / "lower.npy", mode="w+", dtype=np.float16, shape=(int(starts[-1]), width)
    )
    sums = np.zeros((len(texts), width), dtype=np.float64)
    done = 0
    for places in calls(lengths.tolist()):
        ids, mask = (torch.from_numpy(part) for part in padded([windows[at] for at in places]))
        states = lower(ids, mask)
        last = upper(states, mask).numpy()
        for row, at in enumerate(places):
            here = slice(starts[at], starts[at + 1])
            kept[here] = states[row, : lengths[at]].numpy()
            sums[owners[at]] += last[row, : lengths[at]].sum(axis=0, dtype=np.float64)
        done += len(places)
        process.progress(done, len(windows), "windows encoded")
    kept.flush()
    tokens = np.bincount(owners, weights=lengths, minlength=len(texts))
    np.save(folder / "pooled.npy", (sums / tokens[:, None]).astype(np.float32))
    np.save(folder / "starts.npy", starts)
    np.save(folder / "owners.npy", owners)
