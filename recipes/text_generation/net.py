"""The network: a decoder-only transformer with a tied embedding, and how it is trained and exported.

Shapes: B blocks, T tokens asked, P tokens kept from before, S = P + T, D width, H heads, E = D / H, L layers, V tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.text_generation.data import Data, Packed
from recipes.text_generation.size import Size

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.text_generation import TextGeneration

ROTARY_BASE = 10_000.0
NO_TARGET = -100


def normed(size: Size) -> nn.Module:
    return nn.LayerNorm(size.width) if size.norm == "layer" else nn.RMSNorm(size.width, eps=1e-6)


def turned(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): the halves of E as real and imaginary parts. (B, H, T, E) by (B, 1, T, E/2)."""
    real, imaginary = states.chunk(2, dim=-1)
    return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)


class Layer(nn.Module):
    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        bias = size.norm == "layer"
        self.heads, self.dropout = size.heads, dropout
        self.before_attention, self.before_mlp = normed(size), normed(size)
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=bias)
        self.out = nn.Linear(size.width, size.width, bias=bias)
        self.up = nn.Linear(size.width, size.between(), bias=bias)
        self.down = nn.Linear(size.between(), size.width, bias=bias)

    def forward(
        self,
        states: Tensor,
        mask: Tensor,
        turn: tuple[Tensor, Tensor] | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) to the same, with the keys and values (B, H, S, E) that the next token will ask for."""
        blocks, asked, width = states.shape
        parts = (
            self.qkv(self.before_attention(states))
            .view(blocks, asked, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, key, value = parts[0], parts[1], parts[2]
        if turn is not None:
            query, key = turned(query, *turn), turned(key, *turn)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        drop = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        states = states + F.dropout(
            self.out(seen.transpose(1, 2).reshape(blocks, asked, width)), drop
        )
        inner = self.down(F.gelu(self.up(self.before_mlp(states)), approximate="tanh"))
        return states + F.dropout(inner, drop), key, value


class Transformer(nn.Module):
    def __init__(self, size: Size, dropout: float = 0.0) -> None:
        super().__init__()
        self.size, self.dropout = size, dropout
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.places = (
            nn.Embedding(size.context, size.width) if size.positions == "learned" else None
        )
        self.layers = nn.ModuleList(Layer(size, dropout) for _ in range(size.layers))
        self.norm = normed(size)
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """GPT-2's start: 0.02 everywhere, what is added to the stream smaller by the root of how often that happens."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(
                    weight,
                    std=0.02
                    / (
                        math.sqrt(2 * self.size.layers)
                        if name.endswith(("out.weight", "down.weight"))
                        else 1.0
                    ),
                )
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def frequencies(self, places: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine of each place's rotation, (B, 1, T, E/2); None where positions are learned."""
        if self.places is not None:
            return None
        half = self.size.width // self.size.heads // 2
        rates = torch.exp(
            torch.arange(half, device=places.device, dtype=torch.float32)
            * (-math.log(ROTARY_BASE) / half)
        )
        angles = places[:, None, :, None].to(torch.float32) * rates
        return angles.cos(), angles.sin()

    def states(
        self, ids: Tensor, places: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ids and places (B, T), mask (B or 1, 1, T, S): states (B, T, D), keys and values (L, B, H, S, E)."""
        states = self.embedding(ids)
        if self.places is not None:
            states = states + self.places(places)
        states = F.dropout(states, self.dropout if self.training else 0.0)
        turn = self.frequencies(places)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            states, key, value = layer(
                states, mask, turn, None if past is None else (past[0][number], past[1][number])
            )
            keys.append(key)
            values.append(value)
        return self.norm(states), torch.stack(keys), torch.stack(values)

    def packed(self, ids: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """Logits (B, T, V) of blocks that hold several documents, none of which sees another."""
        same = documents[:, :, None] == documents[:, None, :]
        mask = torch.tril(same)[:, None]
        return self.logits(self.states(ids, places, mask)[0])

    def logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self.embedding.weight)

    def forward(
        self, ids: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step that answers: ids (B, T), past (L, B, H, P, E) to logits (B, T, V) and present (L, B, H, S, E)."""
        kept, asked = past_keys.shape[3], ids.shape[1]
        places = (torch.arange(asked, device=ids.device) + kept)[None].expand(ids.shape[0], asked)
        seen = torch.arange(kept + asked, device=ids.device)[None, :] <= places[0][:, None]
        states, keys, values = self.states(ids, places, seen[None, None], (past_keys, past_values))
        return self.logits(states), keys, values


def nothing(size: Size, blocks: int) -> tuple[Tensor, Tensor]:
    """The past of a first step: keys and values of no token."""
    empty = torch.zeros(size.layers, blocks, size.heads, 0, size.width // size.heads)
    return empty, empty.clone()


class Muon(torch.optim.Optimizer):
    """Matrices by Muon (Jordan et al. 2024): momentum, orthogonalised; everything else by AdamW.

    One optimiser for both, since Lightning steps one. `muon` groups move as far as AdamW at the same rate would
    (0.2 sqrt(max(rows, columns)), Liu et al. 2025), so one learning rate serves both.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(
            groups, {"lr": lr, "decay": 0.0, "momentum": 0.95, "betas": (0.9, 0.95), "muon": False}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(
                        self._turned(weight, group) if group["muon"] else self._adam(weight, group),
                        alpha=-group["lr"],
                    )
        return loss

    def _turned(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
        looked = weight.grad.lerp(state["momentum"], group["momentum"])
        return orthogonal(looked) * (0.2 * math.sqrt(max(weight.shape)))

    def _adam(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state |= {
                "step": 0,
                "mean": torch.zeros_like(weight),
                "square": torch.zeros_like(weight),
            }
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(weight.grad, 1 - first)
        state["square"].lerp_(weight.grad.square(), 1 - second)
        scale = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
        return state["mean"] / (1 - first ** state["step"]) / scale


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values about one, by five quintic Newton-Schulz steps (coefficients: Jordan et al. 2024)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    turned_ = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = turned_ @ turned_.T
        turned_ = 3.4445 * turned_ + (-4.7750 * square + 2.0315 * square @ square) @ turned_
    return turned_ if matrix.shape[0] <= matrix.shape[1] else turned_.T


@torch.no_grad()
def pruned(module: Generator, recipe: TextGeneration) -> Generator:
    """The generator with fewer channels between the two maps of each layer: those stay whose weights into and out of them are largest."""
    small = Generator(recipe, module.data)
    weights = module.net.state_dict()
    for number, (old, new) in enumerate(zip(module.net.layers, small.net.layers, strict=True)):
        stay = (
            (old.up.weight.norm(dim=1) * old.down.weight.norm(dim=0))
            .topk(new.up.out_features)
            .indices.sort()
            .values
        )  # type: ignore[union-attr, arg-type]
        for name, dim in (("up.weight", 0), ("up.bias", 0), ("down.weight", 1)):
            if (at := f"layers.{number}.{name}") in weights:
                weights[at] = weights[at].index_select(dim, stay)
    small.net.load_state_dict(weights)
    return small


def adapted(net: Transformer, rank: int) -> Transformer:
    """The network with low-rank additions to its linear maps (Hu et al. 2021), which alone are trained."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["qkv", "out", "up", "down"], bias="none"
    )
    return inject_adapter_in_model(config, net)  # type: ignore[return-value]


@torch.no_grad()
def merged(net: Transformer) -> Transformer:
    """A plain network that answers as this one: low-rank additions are added to what they were added to."""
    plain = Transformer(net.size)
    weights = {
        name.replace(".base_layer", ""): weight
        for name, weight in net.state_dict().items()
        if ".lora_" not in name
    }
    for name, part in net.named_modules():
        if hasattr(part, "get_delta_weight"):
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + part.get_delta_weight("default")
    plain.load_state_dict(weights)
    return plain.eval()


class Generator(lightning.LightningModule):
    """The transformer in training."""

    def __init__(self, recipe: TextGeneration, data: Data) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        self.net = Transformer(recipe.shape(), recipe.dropout)
        if recipe.start:
            from recipes.text_generation.folder import load

            load(self.net, recipe.start)
            if recipe.lora_rank:
                self.net = adapted(self.net, recipe.lora_rank)

    def logits(self, batch: Packed) -> Tensor:
        """(B T, V)."""
        ids, _, places, documents = batch
        return self.net.packed(ids, places, documents).flatten(0, 1)

    def rows(self, batch: Packed) -> Tensor:
        """Which of these have a next token (B T,)."""
        return batch[1].flatten() != NO_TARGET

    def loss(self, logits: Tensor, batch: Packed) -> Tensor:
        """Mean nats a token."""
        return F.cross_entropy(logits.float(), batch[1].flatten(), ignore_index=NO_TARGET)

    def training_step(self, batch: Packed, step: int) -> Tensor:
        loss = self.loss(self.logits(batch), batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Packed, step: int) -> None:
        told = int((batch[1] != NO_TARGET).sum())
        self.log("valid_loss", self.loss(self.logits(batch), batch), batch_size=told)

    def on_validation_epoch_end(self) -> None:
        loss = float(self.trainer.callback_metrics["valid_loss"])
        bits = loss * self.data.valid_targets / self.data.valid_chars / math.log(2)
        self.log("valid_bits_per_char", bits)
        self.log("valid_score", -bits)  # what a sweep maximises

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        if recipe.optimiser == "muon" and "FSDP" in type(self.trainer.strategy).__name__:
            raise ValueError(
                "model.optimiser=muon needs whole matrices and fsdp keeps shards of them; use model.optimiser=adamw"
            )
        trained = [
            (name, weight) for name, weight in self.net.named_parameters() if weight.requires_grad
        ]
        matrices = [
            weight
            for name, weight in trained
            if weight.dim() == 2 and name.startswith("layers.") and ".lora_" not in name
        ]
        chosen = {id(weight) for weight in matrices}
        others = [weight for _, weight in trained if id(weight) not in chosen]
        groups = [
            {"params": matrices, "decay": recipe.decay, "muon": recipe.optimiser == "muon"},
            {"params": others},
        ]
        optimiser = Muon([group for group in groups if group["params"]], recipe.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warm = max(1, total // 20)
        slope = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / warm) * max(0.0, 1 - step / total)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": slope, "interval": "step"}}


def export(net: Transformer, path: Path) -> float:
    """Write the step's graph and give its largest difference from torch over three shapes."""
    import onnxruntime

    net = net.eval().cpu()
    size = net.size
    random = np.random.default_rng(0)

    def asked(blocks: int, kept: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        past = [
            torch.from_numpy(
                random.standard_normal(
                    (size.layers, blocks, size.heads, kept, size.width // size.heads)
                ).astype(np.float32)
            )
            for _ in range(2)
        ]
        return (
            torch.from_numpy(random.integers(0, size.vocabulary, (blocks, tokens))),
            past[0],
            past[1],
        )

    batch, kept, tokens = (
        torch.export.Dim("batch"),
        torch.export.Dim("kept"),
        torch.export.Dim("tokens"),
    )
    past = {1: batch, 3: kept}
    program = torch.onnx.export(
        net,
        asked(2, 3, 5),
        dynamo=True,
        opset_version=18,
        input_names=["ids", "past_keys", "past_values"],
        output_names=["logits", "keys", "values"],
        verbose=False,
        dynamic_shapes={"ids": {0: batch, 1: tokens}, "past_keys": past, "past_values": past},
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for blocks, before, new in ((1, 0, 7), (1, min(9, size.context - 1), 1), (3, 2, 4)):
        given = asked(blocks, before, new)
        with torch.no_grad():
            ours = net(*given)
        theirs = session.run(
            None,
            dict(
                zip(
                    ("ids", "past_keys", "past_values"),
                    (item.numpy() for item in given),
                    strict=True,
                )
            ),
        )
        worst = max(
            worst,
            *(
                float(np.abs(one.numpy() - other).max())
                for one, other in zip(ours, theirs, strict=True)
            ),
        )
    return worst
