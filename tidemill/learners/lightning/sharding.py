"""Training in shards (FSDP; Zhao et al. 2023): each process has its part of every weight.

What leaves such a training is whole: checkpoints, the best weights, their average, and the weights
of the end. To put them together takes all processes at once, while the training still runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

NAME = "fsdp"


class Sharded(FSDPStrategy):
    """Lightning's FSDP, for a CPU's processes too, and for checkpoints as the others read them."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        if self.root_device.type != "cpu":
            return super()._setup_model(model)
        from torch.distributed.fsdp import FullyShardedDataParallel

        # Lightning names a card by its number, and FSDP takes no number for a CPU.
        return FullyShardedDataParallel(
            model,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=self.root_device,
            **self.kwargs,
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.model is not None
        with whole(self.model, everywhere=False):
            state: dict[str, Any] = self.model.state_dict()
        return state

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
        from torch.distributed.fsdp import OptimStateKeyType

        assert self.model is not None
        with whole(self.model, everywhere=False):
            state = FSDP.optim_state_dict(self.model, getattr(optimizer, "_optimizer", optimizer))
            if self.global_rank:
                return state
            # In the form of a training without shards, as go_on and load_checkpoint know it.
            return FSDP.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, self.model)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: Any = None) -> dict[str, Any]:
        from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
        from torch.distributed.fsdp import OptimStateKeyType

        assert self.model is not None
        checkpoint: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        with whole(self.model):
            self.model.load_state_dict(checkpoint["state_dict"])
            pairs = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
            for optimizer, state in pairs:
                named = FSDP.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, self.model)
                optimizer.load_state_dict(
                    FSDP.optim_state_dict_to_load(self.model, optimizer, named)
                )
        return checkpoint


def strategy(name: str, module: nn.Module) -> str | Sharded:
    """Lightning's strategy of this name, for this module.

    A module names in `sharded_layers` the layers that are put together one at a time; without it
    all of its weights are at once, and nothing is saved while it computes.
    """
    if not name.startswith(NAME):
        return name
    layers: set[type[nn.Module]] = set(getattr(module, "sharded_layers", ()))
    return Sharded(auto_wrap_policy=layers or None, cpu_offload=name.endswith("cpu_offload"))


def in_shards(trainer: Any) -> bool:
    return isinstance(trainer.strategy, Sharded)


@contextmanager
def whole(model: Any, everywhere: bool = True) -> Iterator[None]:
    """Within it, states are read and loaded whole, on the CPU, in every process or the first."""
    from torch.distributed.fsdp import (
        FullOptimStateDictConfig,
        FullStateDictConfig,
        StateDictType,
    )
    from torch.distributed.fsdp import (
        FullyShardedDataParallel as FSDP,
    )

    # What lies on a CPU is not copied there again, and is freed under the reader (torch 2.13).
    away = model.compute_device.type != "cpu"
    weights = FullStateDictConfig(offload_to_cpu=away, rank0_only=not everywhere)
    optimiser = FullOptimStateDictConfig(offload_to_cpu=away, rank0_only=not everywhere)
    with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT, weights, optimiser):
        yield


def weights_of(trainer: Any, module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights, whole, in every process; of shards, all processes ask together."""
    if not in_shards(trainer):
        return {name: weight.detach().clone() for name, weight in module.state_dict().items()}
    model = trainer.strategy.model
    with whole(model):
        return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def forget_gathered(trainer: Any) -> None:
    """Have shards that were changed put together anew.

    A validation leaves the outermost layer's weights together, and the next step would take those.
    """
    if not in_shards(trainer):
        return
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    for part in FSDP.fsdp_modules(trainer.strategy.model):
        handle = part._handle  # no public call frees what lies together already (torch 2.13)
        if handle is not None and not handle.needs_unshard():
            handle.reshard(True)


class Whole(Callback):
    """Takes the whole weights as a training in shards ends."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.weights = weights_of(trainer, module)


class Clip(Callback):
    """Clips gradients by their norm over all shards, which Lightning refuses."""

    def __init__(self, norm: float) -> None:
        self.norm = norm

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        trainer.strategy.model.clip_grad_norm_(self.norm)


@torch.no_grad()
def spread(trainer: Any, module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's shards of whole weights, by the module's own names.

    The module's weights are as before afterwards.
    """
    own = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    model = trainer.strategy.model
    with whole(model):
        model.load_state_dict(weights, strict=False)
    shards = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    for name, weight in module.named_parameters():
        weight.copy_(own[name])
    return shards
