"""The network: a decoder-only transformer, and the graph that answers one step after another.

Shapes: B sequences, T tokens, P tokens before them in the cache, L layers, H heads, D width of a head, C dim, V tokens there are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.text_generation.size import Shape

ROTARY_BASE = 10_000.0   # Su et al. 2021


def rotated(x: Tensor, places: Tensor) -> Tensor:
    """Rotary positions: x (B, H, T, D), places (B, T) or (T,) of the tokens within their document."""
    half = x.shape[-1] // 2
    rates = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = places[..., None].to(torch.float32) * rates
    if angles.dim() == 3:
        angles = angles[:, None]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


def norm(shape: Shape) -> nn.Module:
    return nn.RMSNorm(shape.dim, eps=1e-5) if shape.norm == "rms" else nn.LayerNorm(shape.dim, eps=1e-5)


class Block(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads, self.rotary, self.dropout = shape.heads, shape.positions == "rotary", nn.Dropout(dropout)
        self.before_attention, self.before_mlp = norm(shape), norm(shape)
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=shape.bias)
        self.out = nn.Linear(shape.dim, shape.dim, bias=shape.bias)
        self.up = nn.Linear(shape.dim, 4 * shape.dim, bias=shape.bias)
        self.down = nn.Linear(4 * shape.dim, shape.dim, bias=shape.bias)

    def forward(self, x: Tensor, places: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) to the same, and the keys and values (B, H, P + T, D) so far; no mask is plain causal."""
        batch, time, dim = x.shape
        q, k, v = (part.reshape(batch, time, self.heads, dim // self.heads).transpose(1, 2) for part in self.qkv(self.before_attention(x)).split(dim, dim=2))
        if self.rotary:
            q, k = rotated(q, places), rotated(k, places)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(batch, time, dim)))
        x = x + self.dropout(self.down(F.gelu(self.up(self.before_mlp(x)), approximate="tanh")))
        return x, k, v


class GPT(nn.Module):
    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocab, shape.dim)      # also the output layer: weights are tied
        self.places = nn.Embedding(shape.context, shape.dim) if shape.positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.last = norm(shape)
        for name, weight in self.named_parameters():            # GPT-2's start
            if weight.dim() == 2:
                depth = math.sqrt(2 * shape.layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 / depth)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def begin(self, ids: Tensor, places: Tensor) -> Tensor:
        x = self.tokens(ids)
        return self.dropout(x if self.places is None else x + self.places(places))

    def end(self, x: Tensor) -> Tensor:
        return F.linear(self.last(x), self.tokens.weight)

    def forward(self, ids: Tensor, places: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Token numbers (B, T) to logits (B, T, V).

        With `documents` (B, T), the number of each token's document, a token sees its own document only, and
        `places` (B, T) count from its beginning.
        """
        if places is None:
            places = torch.arange(ids.shape[1], device=ids.device)
        mask = None if documents is None else (documents[:, None, :, None] == documents[:, None, None, :]).tril()
        x = self.begin(ids, places)
        for block in self.blocks:
            x, _, _ = block(x, places, mask)
        return self.end(x)


class Step(nn.Module):
    """Answering's way: new tokens beside the cache of those before them."""

    def __init__(self, net: GPT) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (B, T), keys and values (L, B, H, P, D) to logits (B, T, V) and the cache (L, B, H, P + T, D); P may be 0."""
        time, past = ids.shape[1], keys.shape[3]
        places = torch.arange(time, device=ids.device) + past
        mask = torch.arange(time + past, device=ids.device)[None, :] <= places[:, None]
        x = self.net.begin(ids, places)
        all_keys, all_values = [], []
        for number, block in enumerate(self.net.blocks):
            x, k, v = block(x, places, mask, (keys[number], values[number]))
            all_keys.append(k)
            all_values.append(v)
        return self.net.end(x), torch.stack(all_keys), torch.stack(all_values)
