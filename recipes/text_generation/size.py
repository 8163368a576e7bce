"""How large a transformer is, what training it takes, and what one device must hold.

Sizes are data.

B blocks in a step, T tokens in a block, D width, H heads, L layers, V tokens of the vocabulary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tidemill.runtime.errors import Refused

LOGITS_AT_ONCE = 2**24  # of a training: 67 MB at 32 bits
Positions = Literal["rotary", "learned"]
Norm = Literal["rms", "layer"]


@dataclass(frozen=True)
class Size:
    """A network's shape. With `layer` norms its linear maps have biases, as in GPT-2.

    With `rms` they have none.
    """

    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int
    positions: Positions
    norm: Norm
    inner: float = 1.0  # channels between the two maps of a layer, as a share of 4 D

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.positions == "rotary" and self.width // self.heads % 2):
            raise ValueError(
                f"width {self.width} does not divide into {self.heads} heads of even width; "
                "change one of them"
            )

    def matrices(self) -> int:
        """Weights that multiply every token: 12 D^2 a layer where none were taken out.

        The embedding is tied and counted apart.
        """
        return (4 * self.width**2 + 2 * self.width * self.between()) * self.layers

    def between(self) -> int:
        """Channels between the two maps of a layer."""
        return max(1, round(4 * self.width * self.inner))

    def parameters(self) -> int:
        """All of them, the tied embedding once."""
        norm = self.width * (2 if self.norm == "layer" else 1)
        # 3 D for q, k, v; D out; 4 D up; D down.
        biases = 5 * self.width + self.between() if self.norm == "layer" else 0
        places = self.context * self.width if self.positions == "learned" else 0
        return (
            self.vocabulary * self.width
            + places
            + self.layers * (2 * norm + biases)
            + self.matrices()
            + norm
        )

    def flops(self) -> int:
        """Forward and backward of one token.

        6 a weight and 12 D T a layer of attention (Chowdhery et al. 2022, appendix B).
        """
        return (
            6 * (self.matrices() + self.vocabulary * self.width)
            + 12 * self.layers * self.width * self.context
        )


@dataclass(frozen=True)
class CountedSize(Size):
    """The shape of a network that is trained through transformers, whose parameters are counted."""

    counted: int = 0  # all of them, a tied embedding once

    def __post_init__(self) -> None:
        """Its heads are what its architecture says."""

    def matrices(self) -> int:
        return max(0, self.counted - self.vocabulary * self.width)

    def parameters(self) -> int:
        return self.counted


SIZES: dict[str, Size] = {
    "tiny": Size(4, 4, 192, 256, 2048, "rotary", "rms"),
    "small": Size(8, 8, 512, 512, 8192, "rotary", "rms"),
    "124m": Size(12, 12, 768, 1024, 50_257, "learned", "layer"),  # GPT-2 (Radford et al. 2019)
    "350m": Size(24, 16, 1024, 1024, 50_257, "learned", "layer"),  # GPT-2 medium
    "1b": Size(24, 16, 2048, 2048, 50_257, "rotary", "rms"),  # GPT-3 XL's shape (Brown et al. 2020)
}


def sized(name: str, **changes: int | float | str) -> Size:
    """A named size with some of its numbers replaced; 0 and "" leave the size's own."""
    own: dict[str, Any] = {key: value for key, value in changes.items() if value}
    return replace(SIZES[name], **own)


def positions_at_once(vocabulary: int) -> int:
    """How many positions have their logits in memory at once, in training."""
    return max(1, LOGITS_AT_ONCE // vocabulary)


class UnusableStart(Refused, ValueError):
    """Weights that a training cannot begin from."""


GPT2 = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_by_inverse_layer_idx": False,
}
"""What a config.json must say, or leave out, for the network here to be that one."""
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length")
Layout = Literal["package", "gpt2", "transformers"]


def layout(folder: str) -> Layout:
    """How the weights lie in a folder.

    In a package of a network made here, in GPT-2's layout, which the network here takes, or in
    another one that is trained through transformers. UnusableStart where it is none of them.
    """
    path = Path(folder)
    if (path / "size.json").is_file():
        return "package"
    if not (path / "config.json").is_file():
        raise UnusableStart(
            f"start '{folder}' has no size.json (a package) and no config.json (Hugging Face's "
            "layout); name a folder with one of them"
        )
    config = hub_config(folder)
    plain = all(config.get(key, value) == value for key, value in GPT2.items())
    width = config.get("n_embd")
    inner = isinstance(width, int) and config.get("n_inner") in (None, 4 * width)
    return "gpt2" if "model_type" in config and plain and inner else "transformers"


def hub_config(folder: str) -> dict[str, Any]:
    """A folder's config.json. UnusableStart where it is no object or names no architecture."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise UnusableStart(f"start '{folder}': config.json is not JSON: {error}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise UnusableStart(f"start '{folder}': config.json names no model_type")
    return config


def hub_bounds(folder: str, context: int) -> tuple[int, int]:
    """Context and vocabulary of a folder in a layout of transformers; `context` may lower it."""
    config = hub_config(folder)
    for name in (*CONTEXT_NAMES, "vocab_size"):
        number = config.get(name)
        if number is not None and (not isinstance(number, int) or number < 1):
            raise UnusableStart(f"start '{folder}': config.json's {name} is no whole number over 0")
    own = next((config[name] for name in CONTEXT_NAMES if config.get(name)), None)
    if own is None and not context:
        raise UnusableStart(
            f"start '{folder}': config.json says no context ({', '.join(CONTEXT_NAMES)}); "
            "say model.context"
        )
    if own is not None and context > own:
        raise UnusableStart(f"model.context={context}: '{folder}' was made for {own} at most")
    if config.get("vocab_size") is None:
        raise UnusableStart(
            f"start '{folder}': config.json has no vocab_size: it is no causal model"
        )
    return int(context or own or 0), int(config["vocab_size"])


def start_size(folder: str) -> Size:
    """The size of the weights there; UnusableStart where the network here cannot take them."""
    kind = layout(folder)
    try:
        return own_size(folder) if kind == "package" else gpt2_size(folder, kind)
    except UnusableStart:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        file = "size.json" if kind == "package" else "config.json"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnusableStart(
            f"start '{folder}': {file} gives no size ({reason}); bring the file as it was written"
        ) from None


def own_size(folder: str) -> Size:
    """The size of a package of a network made here."""
    return Size(**json.loads((Path(folder) / "size.json").read_text("utf-8")))


def gpt2_size(folder: str, kind: Layout) -> Size:
    config = hub_config(folder)
    if kind == "transformers":
        raise UnusableStart(
            f"start '{folder}': model_type {config['model_type']!r} is trained through "
            "transformers, and has none of the sizes here"
        )
    return Size(
        config["n_layer"],
        config["n_head"],
        config["n_embd"],
        config["n_positions"],
        config["vocab_size"],
        "learned",
        "layer",
    )


def budget(
    size: Size,
    blocks: int,
    steps: int,
    devices: int = 1,
    strategy: str = "auto",
    precision: str = "32-true",
    checkpointing: bool = False,
) -> dict[str, float | int | str]:
    """What a training takes: parameters, bytes on each device, tokens and FLOPs.

    `blocks` are those of one step, which the devices share. ddp keeps everything on each device;
    fsdp gives each device its share of parameters, gradients and optimiser, and one whole layer at
    a time while it computes.
    """
    step = blocks * size.context
    tokens = -(-blocks // devices) * size.context  # of one device
    mb = {
        **_states(size, devices if "fsdp" in strategy else 1, precision),
        "activations_mb": _activations(size, tokens, not precision.startswith("32"), checkpointing),
        "logits_mb": _logits(size, tokens),
    }
    return {
        "parameters": size.parameters(),
        "devices": devices,
        "strategy": strategy,
        "precision": precision,
        **{name: round(value / 1e6, 1) for name, value in mb.items()},
        "device_mb": round(sum(mb.values()) / 1e6, 1),
        "tokens_per_step": step,
        "tokens": step * steps,
        "flops": size.flops() * step * steps,
    }


def _states(size: Size, shares: int, precision: str) -> dict[str, float]:
    """Bytes of parameters, gradients and optimiser on one of the devices that share them.

    Also those of one whole layer, which a device gathers while it computes.
    """
    # Bytes of a parameter and its gradient; mixed keeps both at 32 bits.
    each = 2 if not precision.startswith("32") and "true" in precision else 4
    parameters = size.parameters()
    layer = size.matrices() // size.layers + size.vocabulary * size.width
    return {
        "parameters_mb": parameters * each / shares,
        "gradients_mb": parameters * each / shares,
        "optimiser_mb": parameters * 2 * 4 / shares,
        "gathered_mb": layer * each if shares > 1 else 0,
    }


def _logits(size: Size, tokens: int) -> int:
    """Bytes of logits, at 32 bits.

    Of all of them also the likelihoods and the gradient; of a chunk nothing else, but then the
    gradient of the output matrix is made with the loss, beside that of the step before.
    """
    at_once = positions_at_once(size.vocabulary)
    if tokens <= at_once:
        return tokens * size.vocabulary * 4 * 3
    return (at_once + size.width) * size.vocabulary * 4


def _activations(size: Size, tokens: int, half: bool, checkpointing: bool) -> int:
    """Bytes of what the backward pass needs of `tokens`; `half` where it is at 16 bits.

    A layer's are 34 B T D bytes at 16 bits (Korthikanti et al. 2022, without dropout's masks and
    with attention that keeps no T x T matrix); 43 where rotations and RMSNorm, which torch makes of
    several operations, keep their parts too (tests/test_plan.py counts both).
    """
    at_16_bits = 43 if (size.positions, size.norm) == ("rotary", "rms") else 34
    layer = tokens * size.width * at_16_bits * (1 if half else 2)
    if checkpointing:
        return tokens * size.width * (2 if half else 4) * size.layers + layer
    return layer * size.layers
