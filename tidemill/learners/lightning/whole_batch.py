"""One step, however it is cut: by processes that share a batch, or into batches that add up.

Lightning averages the gradients of both. So that this is the gradient of one process that has all
rows at once, each loss counts by its rows (a text's: by its target tokens), batch normalisation
takes its statistics over the rows of all processes, and dropout draws one mask for all of them.
What a fused layer does inside (dropout between an LSTM's layers, or in attention) stays with each
process.
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
    """What Lightning does to a module before several processes train it, and undoes afterwards."""

    def __init__(self) -> None:
        self.replaced: list[tuple[nn.Module, str, Any]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        for layer in model.modules():
            if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
                self._replace(layer, "forward", partial(normalised, layer))
            elif type(layer) is nn.Dropout:
                self._replace(layer, "forward", partial(dropped, layer))
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


class WeightedLoss(Callback):
    """Makes a step's loss the mean over all its rows, whatever parts they come in.

    `count` gives the rows that the loss of a batch is the mean over. A mean of the parts' means is
    another number where they differ: where texts have masks, or an epoch's last part is smaller.
    Each loss is multiplied by its rows over those of the step's first part, all processes
    together, and the sum of the gradients is put right before the optimiser's step, when it is
    known of how many rows they are. So nothing changes where there is one part.
    """

    def __init__(self, count: Count) -> None:
        self.count = count
        self.first = self.all = 0.0  # rows of the step's first part, and of its parts so far
        self.replaced: tuple[Any, Any] | None = None

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        # A network that steps its optimisers itself has left its loss behind by then.
        if stage == "fit" and self.replaced is None and module.automatic_optimization:
            self.replaced = module, vars(module).get("training_step")
            module.training_step = self.weighted(module.training_step)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if self.replaced is None:
            return
        owner, own = self.replaced
        self.replaced = None
        if own is None:
            del owner.training_step
        else:
            owner.training_step = own

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.teardown(trainer, module, "fit")

    def weighted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def counted(batch: Any, *rest: Any, **more: Any) -> Any:
            output = step(batch, *rest, **more)
            loss = output["loss"] if isinstance(output, dict) else output
            if loss is None:
                return output
            factor = self.factor(batch, loss.device)
            if factor == 1:
                return output
            scaled = loss * factor
            return {**output, "loss": scaled} if isinstance(output, dict) else scaled

        return counted

    def factor(self, batch: Any, device: torch.device) -> float:
        """A part's rows over those that each process has, on average, of the step's first part."""
        rows = float(self.count(batch))
        everywhere, processes = rows, 1
        if shared():
            total = torch.tensor(rows, device=device, dtype=torch.float32)
            dist.all_reduce(total)
            everywhere, processes = float(total), dist.get_world_size()
        self.first = self.first or max(1.0, everywhere)
        self.all += everywhere
        return rows * processes / self.first

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if self.replaced is None:
            return
        # Lightning divided by the parts of a whole step, however many there were.
        factor = trainer.accumulate_grad_batches * self.first / max(1.0, self.all)
        self.first = self.all = 0.0
        if factor == 1:
            return
        for weight in module.parameters():
            if weight.grad is not None:
                weight.grad.mul_(factor)


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
