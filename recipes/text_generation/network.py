"""How the transformer is trained and exported."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from recipes.text_generation import folder
from recipes.text_generation.data import NO_TARGET, Data, Packed
from recipes.text_generation.hub import (
    HubNetwork,
    HubStep,
    cache_shape,
    whole_text_difference,
)
from recipes.text_generation.loss import nats_of, summed_nats
from recipes.text_generation.mixture import ROWS
from recipes.text_generation.muon import Muon
from recipes.text_generation.schema import Fields
from recipes.text_generation.session import EVALUATION
from recipes.text_generation.spans import spans
from recipes.text_generation.transformer import Layer, Transformer, adapted, merged
from tidemill.contract import SHARE
from tidemill.families.networks import export, scheduled, total_steps
from tidemill.learners.lightning.loop import LightningLearner


class Generator(lightning.LightningModule):
    """The transformer in training."""

    sharded_layers = (Layer,)

    def __init__(self, fields: Fields, data: Data) -> None:
        super().__init__()
        self.fields, self.data = fields, data
        self.net = opened(fields)
        # Noted here, since a shard of a matrix is none, and its name is another.
        self.matrices = self.net.matrices()

    def logits(self, batch: Packed) -> Tensor:
        """(B T, V)."""
        ids, _, places, documents = batch
        return self.net.packed(ids, places, documents).flatten(0, 1)

    def rows(self, batch: Packed) -> Tensor:
        """Which of these have a next token (B T,)."""
        return batch[1].flatten() != NO_TARGET

    def loss(self, logits: Tensor, batch: Packed) -> Tensor:
        """Mean nats of the tokens that are asked; 0 where none is."""
        targets = batch[1].flatten()
        return nats_of(logits, targets) / asked_tokens(targets)

    def batch_loss(self, batch: Packed) -> Tensor:
        """The same, without all logits of a batch in memory at once where that can be."""
        head = self.net.head()
        if head is None:
            return self.loss(self.logits(batch), batch)
        ids, targets, places, documents = batch
        states = self.net.packed_states(ids, places, documents).flatten(0, 1)
        targets = targets.flatten()
        nats = summed_nats(head, states, targets)
        return nats / asked_tokens(targets)

    def on_train_epoch_start(self) -> None:
        if self.data.mixed:
            epoch = self.trainer.current_epoch
            shares = self.data.mixed.shares(self.data.mixed.rows(epoch))
            self.log_dict({SHARE + name: share for name, share in shares.items()})

    def training_step(self, batch: Packed, step: int) -> Tensor:
        loss = self.batch_loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Packed, step: int) -> None:
        told = int((batch[1] != NO_TARGET).sum())
        self.log("valid_loss", self.batch_loss(batch), batch_size=told)

    def on_validation_epoch_end(self) -> None:
        loss = float(self.trainer.callback_metrics["valid_loss"])
        valid = self.data.valid
        bits = loss * valid.targets / max(1, valid.chars) / math.log(2)
        self.log("valid_bits_per_char", bits)

    def configure_optimizers(self) -> Any:
        fields = self.fields
        trained = [weight for weight in self.net.parameters() if weight.requires_grad]
        matrices = [weight for weight in trained if id(weight) in self.matrices]
        others = [weight for weight in trained if id(weight) not in self.matrices]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "decay": fields.decay, "muon": fields.optimiser == "muon"},
            {"params": others},
        ]
        optimiser = Muon([group for group in groups if group["params"]], fields.lr)
        total = total_steps(self)
        warm = max(1, total // 20)

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / warm) * max(0.0, 1 - step / total)

        return scheduled(optimiser, rate)


def asked_tokens(targets: Tensor) -> Tensor:
    """How many targets there are; 1 where there is none."""
    return (targets != NO_TARGET).sum().clamp(min=1)


class GeneratorLearner(LightningLearner[Any, Data, Generator]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Generator:
        return Generator(self.recipe, self.data)

    def shrink(self, into: GeneratorLearner) -> None:
        shrink(self.module, into.module)

    def incompatible(self, package: Path) -> str:
        same = (package / "tokenizer.json").read_text("utf-8") == self.data.tokens.body
        return "" if same else "its tokens are others than those of today's data"

    def export(self, package: Path) -> float:
        data, net = self.data, self.module.net
        evaluation = {"samples": self.recipe.samples}
        (package / EVALUATION).write_text(json.dumps(evaluation) + "\n")
        seen = spans(data.source.learned())
        np.savez_compressed(package / "seen.npz", hashes=seen.hashes, every=seen.every)
        np.savez(package / ROWS, hashes=np.unique(data.train.hashes[:]))
        if isinstance(net, HubNetwork):
            return export_hub(net.merged(), package, data)
        plain = merged(net)
        folder.save(plain, package, data.tokens)
        size = plain.size
        cache = (size.layers, 1, size.heads, 0, size.width // size.heads)
        return export_step(plain, package, cache, data)


def opened(fields: Fields) -> Transformer | HubNetwork:
    """The network of these fields, from the start's weights where there is one."""
    if fields.trains_in_place():
        hub = HubNetwork.opened(str(fields.start_folder()), fields.bounds()[0])
        if fields.lora_rank:
            hub.adapt(fields.lora_rank)
        if fields.checkpointing:
            hub.checkpoint_activations()
        return hub
    net = Transformer(fields.shape(), fields.dropout, fields.checkpointing)
    if fields.start:
        folder.load(net, str(fields.start_folder()))
        if fields.lora_rank:
            net = adapted(net, fields.lora_rank)
    return net


def export_hub(net: HubNetwork, package: Path, data: Data) -> float:
    """A network of transformers as its folder and its graph; the largest difference between."""
    net.save(package)
    folder.save_tokens(data.tokens, package, net.context)
    step = HubStep(net).eval()
    graph = export_step(step, package, cache_shape(net, 1, 0), data)
    ids = torch.randint(data.tokens.size, (2, min(48, net.context)), generator=generator())
    again = HubNetwork.opened(str(package), net.context)
    return max(graph, whole_text_difference(again, step, ids))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def export_step(net: nn.Module, package: Path, cache: Sequence[int], data: Data) -> float:
    """Write the step's graph; its largest difference from torch."""
    random = np.random.default_rng(0)
    sizes = ((2, 3, 5), (1, 0, 7), (1, min(9, data.context - 1), 1), (3, 2, 4))
    past = {1: "batch", 3: "kept"}
    return export(
        net,
        package / "model.onnx",
        [drawn(cache, data.tokens.size, random, *one) for one in sizes],
        ["logits", "keys", "values"],
        {
            "ids": {0: "batch", 1: "tokens"},
            "begins": {0: "batch"},
            "past_keys": past,
            "past_values": past,
        },
    )


def drawn(
    cache: Sequence[int],
    vocabulary: int,
    random: np.random.Generator,
    blocks: int,
    kept: int,
    tokens: int,
) -> dict[str, Tensor]:
    """Random inputs of the step: `tokens` after `kept` ones of which keys and values are known.

    Rows begin at different places. The cache's shape is (L, any, H, any, E).
    """
    layers, _, heads, _, channels = cache
    shape = (layers, blocks, heads, kept, channels)
    keys, values = (
        torch.from_numpy(random.standard_normal(shape).astype(np.float32)) for _ in range(2)
    )
    ids = torch.from_numpy(random.integers(0, vocabulary, (blocks, tokens)))
    begins = torch.arange(blocks) % (kept + 1)
    return {"ids": ids, "begins": begins, "past_keys": keys, "past_values": values}


@torch.no_grad()
def shrink(module: Generator, small: Generator) -> None:
    """Give a generator with fewer channels between the two maps of each layer the weights.

    Those channels stay whose weights into and out of them are largest.
    """
    assert isinstance(module.net, Transformer) and isinstance(small.net, Transformer)
    weights = module.net.state_dict()
    for number, (old, new) in enumerate(zip(module.net.layers, small.net.layers, strict=True)):
        assert isinstance(old, Layer) and isinstance(new, Layer)
        size = old.up.weight.norm(dim=1) * old.down.weight.norm(dim=0)
        stay = size.topk(new.up.out_features).indices.sort().values
        for name, dim in (("up.weight", 0), ("up.bias", 0), ("down.weight", 1)):
            if (at := f"layers.{number}.{name}") in weights:
                weights[at] = weights[at].index_select(dim, stay)
    small.net.load_state_dict(weights)
