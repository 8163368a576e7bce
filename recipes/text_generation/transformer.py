"""A decoder-only transformer with a tied embedding.

Shapes: B blocks, T tokens asked, P tokens kept from before, S = P + T, D width, H heads, E = D / H,
L layers, V tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recipes.text_generation.loss import Head
from recipes.text_generation.size import Size

ROTARY_BASE = 10_000.0


def normed(size: Size) -> nn.Module:
    return nn.LayerNorm(size.width) if size.norm == "layer" else nn.RMSNorm(size.width, eps=1e-6)


def turned(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): the halves of E as real and imaginary parts.

    (B, H, T, E) by (B, 1, T, E/2).
    """
    real, imaginary = states.chunk(2, dim=-1)
    return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)


class Layer(nn.Module):
    """One of them; with `checkpointing` a training makes what is within it again, backwards.

    So only its inputs are kept (Chen et al. 2016).
    """

    def __init__(self, size: Size, dropout: float, checkpointing: bool = False) -> None:
        super().__init__()
        bias = size.norm == "layer"
        self.heads, self.dropout, self.checkpointing = size.heads, dropout, checkpointing
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
        """(B, T, D) to the same, with keys and values (B, H, S, E).

        The next token will ask for these.
        """
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return self.computed(states, mask, turn, past)
        again: tuple[Tensor, Tensor, Tensor] = checkpoint(
            self.computed, states, mask, turn, past, use_reentrant=False
        )
        return again

    def computed(
        self,
        states: Tensor,
        mask: Tensor,
        turn: tuple[Tensor, Tensor] | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
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
    def __init__(self, size: Size, dropout: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.size, self.dropout = size, dropout
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.places = (
            nn.Embedding(size.context, size.width) if size.positions == "learned" else None
        )
        self.layers = nn.ModuleList(Layer(size, dropout, checkpointing) for _ in range(size.layers))
        self.norm = normed(size)
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """GPT-2's start.

        0.02 everywhere, what is added to the stream smaller by the root of how often that
        happens.
        """
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

    def matrices(self) -> set[int]:
        """The ids of the weights that are maps between channels."""
        return {
            id(weight)
            for name, weight in self.named_parameters()
            if weight.dim() == 2 and name.startswith("layers.") and ".lora_" not in name
        }

    def frequencies(self, places: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine of each place's rotation, (B, 1, T, E/2), in the states' precision.

        None where positions are learned. Angles are of 32 bits: at 16, far places fall together.
        """
        if self.places is not None:
            return None
        half = self.size.width // self.size.heads // 2
        rates = torch.exp(
            torch.arange(half, device=places.device, dtype=torch.float32)
            * (-math.log(ROTARY_BASE) / half)
        )
        angles = places[:, None, :, None].to(torch.float32) * rates
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def embedded(self, ids: Tensor, places: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """What the first layer reads (B, T, D), and the rotations of the places."""
        states = self.embedding(ids)
        if self.places is not None:
            states = states + self.places(places)
        states = F.dropout(states, self.dropout if self.training else 0.0)
        return states, self.frequencies(places, self.embedding.weight.dtype)

    def states(
        self, ids: Tensor, places: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ids and places (B, T), mask (B or 1, 1, T, S).

        States (B, T, D), keys and values (L, B, H, S, E).
        """
        states, turn = self.embedded(ids, places)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            states, key, value = layer(
                states, mask, turn, None if past is None else (past[0][number], past[1][number])
            )
            keys.append(key)
            values.append(value)
        return self.norm(states), torch.stack(keys), torch.stack(values)

    def packed_states(self, ids: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """States (B, T, D) of blocks that hold several documents, none of which sees another."""
        same = documents[:, :, None] == documents[:, None, :]
        mask = torch.tril(same)[:, None]
        states, turn = self.embedded(ids, places)
        for layer in self.layers:
            states = layer(states, mask, turn, None)[0]  # no later token asks for keys and values
        normed_states: Tensor = self.norm(states)
        return normed_states

    def packed(self, ids: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """Their logits (B, T, V)."""
        return self.logits(self.packed_states(ids, places, documents))

    def head(self) -> Head:
        return Head(self.embedding.weight)

    def logits(self, states: Tensor) -> Tensor:
        return self.head().logits(states)

    def forward(
        self, ids: Tensor, begins: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step that answers.

        Ids (B, T), past (L, B, H, P, E) to logits (B, T, V) and present (L, B, H, S, E). Of each
        row the first `begins` (B,) of all S are filling, which nothing sees: so rows of several
        lengths share a step.
        """
        kept, asked = past_keys.shape[3], ids.shape[1]
        at = torch.arange(asked, device=ids.device) + kept
        places = (at[None] - begins[:, None]).clamp(min=0)
        keys_at = torch.arange(kept + asked, device=ids.device)
        earlier = keys_at[None, :] <= at[:, None]
        itself = keys_at[None, :] == at[:, None]  # filling sees itself: a row of no key is NaN
        seen = earlier & (keys_at[None, :] >= begins[:, None])[:, None] | itself
        states, keys, values = self.states(ids, places, seen[:, None], (past_keys, past_values))
        return self.logits(states), keys, values


def nothing(size: Size, blocks: int) -> tuple[Tensor, Tensor]:
    """The past of a first step: keys and values of no token."""
    empty = torch.zeros(size.layers, blocks, size.heads, 0, size.width // size.heads)
    return empty, empty.clone()


def adapted(net: Transformer, rank: int) -> Transformer:
    """The network with low-rank additions to its linear maps (Hu et al. 2021).

    They alone are trained.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["qkv", "out", "up", "down"], bias="none"
    )
    adapter: Any = inject_adapter_in_model(config, net)
    return adapter


@torch.no_grad()
def merged(net: Transformer) -> Transformer:
    """A plain network that answers as this one.

    Low-rank additions are added to what they were added to.
    """
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
