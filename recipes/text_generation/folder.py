"""Weights to begin from: a package of ours, or a folder in GPT-2's Hugging Face layout.

GPT-2's layout: config.json, model.safetensors (its linear maps transposed, as Conv1D keeps them),
and tokenizer.json or vocab.json with merges.txt.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from recipes.text_generation.transformer import Transformer

PARTS = {
    "before_attention": "ln_1",
    "qkv": "attn.c_attn",
    "out": "attn.c_proj",
    "before_mlp": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
LINEAR = ("qkv", "out", "up", "down")


def load(net: Transformer, folder: str) -> None:
    """Set the network's weights to those of the folder, each of them."""
    from safetensors.torch import load_file

    path = Path(folder)
    name = "weights.safetensors" if (path / "size.json").is_file() else "model.safetensors"
    if not (path / name).is_file():
        raise ValueError(f"start '{folder}' has no {name}")
    weights = load_file(str(path / name))
    net.load_state_dict(
        weights if name == "weights.safetensors" else from_gpt2(weights, net.size.layers)
    )


def save(net: Transformer, package: Path) -> None:
    """The weights and their size into a package, for a later training to begin from."""
    from safetensors.torch import save_file

    (package / "size.json").write_text(json.dumps(asdict(net.size)) + "\n")
    save_file(
        {name: weight.detach().cpu().contiguous() for name, weight in net.state_dict().items()},
        str(package / "weights.safetensors"),
    )


def _names(layers: int) -> dict[str, str]:
    """Our module names to GPT-2's."""
    found = {"embedding": "wte", "places": "wpe", "norm": "ln_f"}
    for number in range(layers):
        found |= {
            f"layers.{number}.{ours}": f"h.{number}.{theirs}" for ours, theirs in PARTS.items()
        }
    return found


def _turned(name: str, weight: Tensor) -> Tensor:
    return (
        weight.T.contiguous() if weight.dim() == 2 and name.rsplit(".", 1)[-1] in LINEAR else weight
    )


def from_gpt2(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """GPT-2's weights under our names; its causal masks and its tied output are left out."""
    plain = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    return {
        f"{ours}.{kind}": _turned(ours, plain[f"{theirs}.{kind}"])
        for ours, theirs in _names(layers).items()
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in plain
    }


def to_gpt2(net: Transformer) -> dict[str, Tensor]:
    """Our weights under GPT-2's names; ValueError where the network is not of GPT-2's kind."""
    if (net.size.positions, net.size.norm) != ("learned", "layer"):
        raise ValueError(
            "GPT-2's layout has learned positions and layer norms, this network "
            f"{net.size.positions} and {net.size.norm}"
        )
    own = net.state_dict()
    return {
        f"transformer.{theirs}.{kind}": _turned(ours, own[f"{ours}.{kind}"])
        for ours, theirs in _names(net.size.layers).items()
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in own
    }
