"""The network's weights in a folder that transformers reads, and back.

Every package of a network made here is such a folder: config.json, generation_config.json,
model.safetensors, tokenizer.json and tokenizer_config.json. Its layout is GPT-2's where positions
are learned, Arcee's (Llama's without a gate) with rotary positions and RMSNorm, StarCoder 2's with
rotary positions and layer norms.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.text_generation.size import Size, UnusableStart
from recipes.text_generation.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from recipes.text_generation.transformer import Transformer

WEIGHTS = "model.safetensors"
BEFORE = "weights.safetensors"  # of packages that were made before, under our own names
GPT2_PARTS = {
    "before_attention": "ln_1",
    "qkv": "attn.c_attn",
    "out": "attn.c_proj",
    "before_mlp": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
LINEAR = ("qkv", "out", "up", "down")  # which GPT-2 keeps transposed, as Conv1D
LLAMA_PARTS = {
    "before_attention": "input_layernorm",
    "out": "self_attn.o_proj",
    "before_mlp": "post_attention_layernorm",
}
PROJECTIONS = ("q", "k", "v")
MAPS = {"arcee": ("up_proj", "down_proj"), "starcoder2": ("c_fc", "c_proj")}
ARCHITECTURES = {
    ("learned", "layer"): "gpt2",
    ("rotary", "rms"): "arcee",
    ("rotary", "layer"): "starcoder2",
}
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "arcee": "ArceeForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}


def load(net: Transformer, folder: str) -> None:
    """Set the network's weights to the folder's, each of them. UnusableStart if it cannot."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    name = BEFORE if (path / BEFORE).is_file() else WEIGHTS
    if not (path / name).is_file():
        raise UnusableStart(f"start '{folder}' has no {name}; {pickled(path)}")
    try:
        weights = load_file(str(path / name))
        own = name == BEFORE or "embedding.weight" in weights
        net.load_state_dict(weights if own else from_hub(weights, net.size))
    except (RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnusableStart(
            f"start '{folder}': its weights are of another network: {reason}"
        ) from None


def pickled(folder: Path) -> str:
    """What to do about a folder without safetensors."""
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        return "pickled weights can run code and are not read; save them as safetensors"
    return "name a folder that has it"


def save(net: Transformer, package: Path, tokens: Tokens) -> None:
    """The weights, their size and tokens into a package, as transformers reads them."""
    from safetensors.torch import save_file

    (package / "size.json").write_text(json.dumps(asdict(net.size)) + "\n")
    known = architecture(net.size) is not None
    weights = to_hub(net) if known else net.state_dict()
    save_file(
        {name: weight.detach().cpu().contiguous() for name, weight in weights.items()},
        str(package / WEIGHTS),
        metadata={"format": "pt"},
    )
    if known:
        write(package / "config.json", config_of(net.size, tokens))
        ends = {"bos_token_id": tokens.begin, "eos_token_id": sorted(tokens.ends)}
        write(package / "generation_config.json", ends)
    save_tokens(tokens, package, net.size.context)


def save_tokens(tokens: Tokens, package: Path, context: int) -> None:
    (package / "tokenizer.json").write_text(tokens.body, encoding="utf-8")
    write(package / "tokenizer_config.json", tokens.config_of(context))


def write(path: Path, body: dict[str, object]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def architecture(size: Size) -> str | None:
    """The architecture of transformers that this network is; None where there is none."""
    return ARCHITECTURES.get((size.positions, size.norm))


def config_of(size: Size, tokens: Tokens) -> dict[str, object]:
    """config.json of a network whose architecture transformers has."""
    kind = ARCHITECTURES[size.positions, size.norm]
    common = {
        "model_type": kind,
        "architectures": [CLASSES[kind]],
        "vocab_size": size.vocabulary,
        "bos_token_id": tokens.begin,
        "eos_token_id": tokens.end,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    if kind == "gpt2":
        return {
            **common,
            "n_layer": size.layers,
            "n_head": size.heads,
            "n_embd": size.width,
            "n_positions": size.context,
            "n_inner": size.between(),
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
        }
    own = (
        {"rms_norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False}
        if kind == "arcee"
        else {"norm_epsilon": 1e-5, "use_bias": True, "sliding_window": None}
    )
    return {
        **common,
        **own,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "hidden_size": size.width,
        "intermediate_size": size.between(),
        "max_position_embeddings": size.context,
        "hidden_act": "gelu_pytorch_tanh",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }


def to_hub(net: Transformer) -> dict[str, Tensor]:
    """Our weights under the names of the architecture that this network is."""
    kind = architecture(net.size)
    if kind is None:
        raise ValueError(
            f"no architecture of transformers has {net.size.positions} positions and "
            f"{net.size.norm} norms"
        )
    own = net.state_dict()
    if kind == "gpt2":
        return {
            f"transformer.{theirs}.{end}": _turned(ours, own[f"{ours}.{end}"])
            for ours, theirs in _gpt2_names(net.size.layers).items()
            for end in ("weight", "bias")
            if f"{ours}.{end}" in own
        }
    weights = {
        f"model.{theirs}.{end}": own[f"{ours}.{end}"]
        for ours, theirs in _llama_names(net.size.layers, kind).items()
        for end in ("weight", "bias")
        if f"{ours}.{end}" in own
    }
    for ours, theirs in _projections(net.size.layers):
        for end in ("weight", "bias"):
            if f"{ours}.{end}" in own:
                parts = own[f"{ours}.{end}"].chunk(3)
                names = [f"{theirs}.{one}_proj.{end}" for one in PROJECTIONS]
                weights |= dict(zip(names, parts, strict=True))
    return weights


def from_hub(weights: dict[str, Tensor], size: Size) -> dict[str, Tensor]:
    """Weights of such a folder under our names; its masks and its tied output are left out."""
    import torch

    kind = architecture(size)
    if kind == "gpt2":
        plain = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
        return {
            f"{ours}.{end}": _turned(ours, plain[f"{theirs}.{end}"])
            for ours, theirs in _gpt2_names(size.layers).items()
            for end in ("weight", "bias")
            if f"{theirs}.{end}" in plain
        }
    assert kind is not None
    own = {
        f"{ours}.{end}": weights[f"model.{theirs}.{end}"]
        for ours, theirs in _llama_names(size.layers, kind).items()
        for end in ("weight", "bias")
        if f"model.{theirs}.{end}" in weights
    }
    for ours, theirs in _projections(size.layers):
        for end in ("weight", "bias"):
            if f"{theirs}.q_proj.{end}" in weights:
                parts = [weights[f"{theirs}.{one}_proj.{end}"] for one in PROJECTIONS]
                own[f"{ours}.{end}"] = torch.cat(parts)
    return own


def _gpt2_names(layers: int) -> dict[str, str]:
    """Our module names to GPT-2's."""
    names = {"embedding": "wte", "places": "wpe", "norm": "ln_f"}
    for number in range(layers):
        names |= {
            f"layers.{number}.{ours}": f"h.{number}.{theirs}" for ours, theirs in GPT2_PARTS.items()
        }
    return names


def _llama_names(layers: int, kind: str) -> dict[str, str]:
    """Our module names to Llama's, but for the one map that is three there."""
    up, down = MAPS[kind]
    parts = {**LLAMA_PARTS, "up": f"mlp.{up}", "down": f"mlp.{down}"}
    names = {"embedding": "embed_tokens", "norm": "norm"}
    for number in range(layers):
        names |= {
            f"layers.{number}.{ours}": f"layers.{number}.{theirs}" for ours, theirs in parts.items()
        }
    return names


def _projections(layers: int) -> list[tuple[str, str]]:
    """Where query, key and value are one map here and three there."""
    return [
        (f"layers.{number}.qkv", f"model.layers.{number}.self_attn") for number in range(layers)
    ]


def _turned(name: str, weight: Tensor) -> Tensor:
    return (
        weight.T.contiguous() if weight.dim() == 2 and name.rsplit(".", 1)[-1] in LINEAR else weight
    )
