"""One batch, however many processes share it.

Each process has some rows of every batch, and Lightning averages their gradients. So that this is
the gradient of one process that has all rows, each loss counts by its rows, batch normalisation
takes its statistics over all of them, and dropout draws one mask for all of them. What a fused
layer does inside (dropout between an LSTM's layers, or in attention) stays with each process.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Count = Callable[[Any], int]


def shared() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def wait() -> None:
    """Go on once every process is here."""
    if shared():
        dist.barrier()


class WholeBatch(LayerSync):
    """What Lightning does to a module before several processes train it, and undoes afterwards.

    `count` gives the rows that the loss of a batch is the mean over; None where nobody can say.
    """

    def __init__(self, count: Count | None) -> None:
        self.count = count
        self.replaced: list[tuple[nn.Module, str, Any]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        for layer in model.modules():
            if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
                self._replace(layer, "forward", partial(normalised, layer))
            elif type(layer) is nn.Dropout:
                self._replace(layer, "forward", partial(dropped, layer))
        step = getattr(model, "training_step", None)
        if step is not None and self.count is not None:
            self._replace(model, "training_step", weighted(step, self.count))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for owner, name, own in reversed(self.replaced):
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)
        self.replaced.clear()
        return model

    def _replace(self, owner: nn.Module, name: str, new: Callable[..., Any]) -> None:
        self.replaced.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, new)


class SameDraws(Callback):
    """A training draws the same numbers, whatever the start of its processes has drawn."""

    def __init__(self) -> None:
        self.state = torch.get_rng_state()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        torch.set_rng_state(self.state)


def weighted(step: Callable[..., Any], count: Count) -> Callable[..., Any]:
    """A training step whose loss counts by its share of the rows.

    The mean of the processes' losses is then the mean over all rows.
    """

    @wraps(step)
    def counted(batch: Any, *rest: Any, **more: Any) -> Any:
        output = step(batch, *rest, **more)
        loss = output["loss"] if isinstance(output, dict) else output
        if loss is None or not shared():
            return output
        rows = torch.tensor(float(count(batch)), device=loss.device)
        factor = rows / (_sum(rows).clamp(min=1) / dist.get_world_size())
        scaled = loss * factor.to(loss.dtype)
        return {**output, "loss": scaled} if isinstance(output, dict) else scaled

    return counted


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _sum(tensor: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(tensor)
    return total


def normalised(layer: _BatchNorm, values: Tensor) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015) over the rows of all processes.

    `values` are (B, C, ...), of B rows here.
    """
    if not (layer.training and shared()):
        return type(layer).forward(layer, values)
    axes = [axis for axis in range(values.dim()) if axis != 1]
    shape = [1, -1, *[1] * (values.dim() - 2)]
    here = values.new_tensor([values.numel() / values.shape[1]])
    sums = _sum(torch.cat([values.sum(axes), here]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.view(shape)
    variance = _sum((centred * centred).sum(axes)) / count
    _remember(layer, mean.detach(), variance.detach(), count)
    scaled = centred * (variance + layer.eps).rsqrt().view(shape)
    if not layer.affine:
        return scaled
    return scaled * layer.weight.view(shape) + layer.bias.view(shape)


@torch.no_grad()
def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Move the running statistics towards those of this batch, as torch does."""
    if layer.running_mean is None or layer.running_var is None:
        return
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum = layer.momentum
    if momentum is None:
        momentum = 1.0 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
    unbiased = variance * count / (count - 1).clamp(min=1)
    layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), momentum)


def dropped(layer: nn.Dropout, values: Tensor) -> Tensor:
    """Dropout by this process's rows of one mask, (rows of all, ...).

    On a GPU each process draws a mask of its own: one for all would take as much memory as theirs
    together.
    """
    ours = layer.training and shared() and not values.is_cuda and 0 < layer.p < 1
    if not ours:
        return type(layer).forward(layer, values)
    rows = torch.zeros(dist.get_world_size(), dtype=torch.long)
    rows[dist.get_rank()] = len(values)
    dist.all_reduce(rows)
    first, total = int(rows[: dist.get_rank()].sum()), int(rows.sum())
    mask = values.new_empty((total, *values.shape[1:])).bernoulli_(1 - layer.p).div_(1 - layer.p)
    return values * mask[first : first + len(values)]
