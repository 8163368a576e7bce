"""What networks of several kinds share: epochs in a random order, schedules, and their graphs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tidemill.kit.batches import Steps, order

OPSET = 18
Batch = tuple[Tensor, ...]


class Shuffled(Steps):
    """An epoch goes through all rows in an order of its own, `batch` at a time."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        super().__init__()
        self.rows, self.batch, self.seed = rows, batch, seed

    @property
    def steps(self) -> int:
        return math.ceil(self.rows / self.batch)

    def whole(self, epoch: int, step: int) -> Any:
        places = order(self.seed, epoch, self.rows)
        return self.take(places[step * self.batch : (step + 1) * self.batch], epoch, step)

    @abstractmethod
    def take(self, rows: Tensor, epoch: int, step: int) -> Any:
        """The batch of these rows, or what `cut` makes it from."""


class TensorRows(Shuffled):
    """Batches of tensors that lie in memory, one entry a row."""

    def __init__(self, tensors: Sequence[Tensor], batch: int, seed: int) -> None:
        super().__init__(len(tensors[0]), batch, seed)
        self.tensors = tensors

    def take(self, rows: Tensor, epoch: int, step: int) -> Batch:
        return tuple(tensor[rows] for tensor in self.tensors)


def loader(batches: Any) -> Any:
    """A loader of batches that are whole already."""
    return torch.utils.data.DataLoader(batches, batch_size=None)


class ClassifierModule(lightning.LightningModule):
    """The training of a classifier: what a subclass has is `net`, and `logits` of a batch.

    A batch is whatever `logits` takes, then targets (B,) and, where rows are weighted, weights.
    """

    net: nn.Module
    label_smoothing = 0.0

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """(B, labels)."""

    def targets(self, batch: Batch) -> Tensor:
        """(B,): which label is each row's."""
        return batch[1]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(logits, self.targets(batch), label_smoothing=self.label_smoothing)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        loss = self.loss(self.logits(batch), batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, step: int) -> None:
        logits, targets = self.logits(batch), self.targets(batch)
        rows = len(targets)
        loss = F.cross_entropy(logits, targets)
        right = (logits.argmax(dim=1) == targets).float().mean()
        self.log("valid_loss", loss, batch_size=rows, on_epoch=True)
        self.log("valid_accuracy", right, batch_size=rows, on_epoch=True)


def sparse_gradients(table: Tensor) -> bool:
    """Whether a table's gradient may name its used rows alone.

    Several processes add up such gradients by gloo where each has the whole table; NCCL refuses
    them, and shards have no rows.
    """
    if not isinstance(table, nn.Parameter):  # a view of shards that were put together
        return False
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    return distributed.get_backend() == "gloo"


def scheduled(optimiser: torch.optim.Optimizer, rate: Callable[[int], float]) -> dict[str, object]:
    """An optimiser whose learning rate is multiplied by a function of the step."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def total_steps(module: lightning.LightningModule) -> int:
    """Optimisation steps of the whole training, at least one."""
    return max(1, int(module.trainer.estimated_stepping_batches))


def warmup_cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Linear over `warmup` steps, then a half cosine to 0 (Loshchilov and Hutter 2017)."""

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return rate


def adamw(module: lightning.LightningModule, lr: float, weight_decay: float) -> dict[str, object]:
    """AdamW whose rate rises over a tenth of the steps and falls to 0 as a cosine."""
    steps = total_steps(module)
    optimiser = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    return scheduled(optimiser, warmup_cosine(steps, max(1, steps // 10)))


def export(
    net: nn.Module,
    path: Path,
    asked: Sequence[Mapping[str, Tensor]],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> float:
    """Write a network's graph; its largest difference from torch over the inputs `asked`.

    The first of `asked` is what the graph is traced with. `dynamic` names each input's axes whose
    length may vary: input to axis to name.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    net = net.eval().cpu()
    names = {name for axes in dynamic.values() for name in axes.values()}
    lengths = {name: torch.export.Dim(name) for name in sorted(names)}
    first = asked[0]
    program = torch.onnx.export(
        net,
        tuple(first.values()),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(first),
        output_names=list(outputs),
        dynamic_shapes=tuple(  # in the order of the inputs, whatever `forward` calls them
            {axis: lengths[length] for axis, length in dynamic.get(name, {}).items()}
            for name in first
        ),
        verbose=False,
    )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # paths of this machine, a stack for each node
    program.save(str(path), external_data=False)
    return _largest_difference(net, path, asked)


def _largest_difference(net: nn.Module, path: Path, asked: Sequence[Mapping[str, Tensor]]) -> float:
    """Between a network's outputs and those of its graph, over all inputs and outputs."""
    import onnxruntime

    graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for tensors in asked:
        with torch.no_grad():
            ours = net(*tensors.values())
        theirs = graph.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
        for one, two in zip((ours,) if isinstance(ours, Tensor) else ours, theirs, strict=True):
            worst = max(worst, float(np.abs(one.numpy() - two).max()))
    return worst
