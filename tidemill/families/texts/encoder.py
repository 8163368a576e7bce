"""An encoder of texts in Hugging Face's layout, or one from scratch, and a linear head.

Shapes: N windows, B texts, T tokens of the longest window, D width, L labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tidemill.kit.as_data import AS_DATA
from tidemill.runtime.errors import Refused

TARGETS = ("query", "key", "value", "dense", "q_proj", "k_proj", "v_proj", "out_proj")
LORA_DROPOUT = 0.05


def frozen(tune: str, upper: int, layers: int) -> int | None:
    """How many of the lowest layers stay as they are; None: all is trained, the tokens' too."""
    if tune == "whole":
        return None
    return layers if tune == "head" else max(0, layers - upper)


def check(folder: Path) -> None:
    """Refuse a folder that holds no encoder in Hugging Face's layout. Raises Refused."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise Refused(f"model.start: {folder} has no {name}; name an encoder's folder")


def pretrained(folder: Path) -> Any:
    """The encoder that lies in a folder. Raises Refused where none does."""
    from transformers import AutoModel
    from transformers.utils import logging

    check(folder)
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # a layer that pools is left out on purpose
    opened: Any
    try:
        more = {"add_pooling_layer": False} if _pools(folder) else {}
        opened = AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",
            **AS_DATA,
            **more,
        )
    except Exception as error:  # whatever a configuration or a file makes it raise
        words = " ".join(str(error).split())[:160]
        raise Refused(f"model.start: {folder} is no encoder that can be read: {words}") from error
    model, report = opened
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them
        raise Refused(
            f"model.start: {folder} lacks {len(missing)} weights, {missing[0]} first; bring all"
        )
    return model


def _pools(folder: Path) -> bool:
    """Whether its architecture has a layer that pools, which nothing here reads."""
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    return kind in ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")


def scratch(vocabulary: int, width: int, layers: int, context: int) -> Any:
    """A small BERT whose weights are drawn."""
    from transformers import AutoModel, BertConfig

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        intermediate_size=4 * width,
        max_position_embeddings=context,
    )
    return AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="eager")


class _Given(nn.Module):
    """In place of a model's embeddings: states that were computed before."""

    def forward(self, inputs_embeds: Tensor | None = None, **_: Any) -> Any:
        return inputs_embeds


class Lower(nn.Module):
    """Tokens and the lowest layers: ids and mask (N, T) to states (N, T, D)."""

    def __init__(self, body: Any, count: int) -> None:
        super().__init__()
        self.body = _with_layers(body, slice(0, count))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        return states


class Upper(nn.Module):
    """The layers above: states (N, T, D) and mask (N, T) to states."""

    def __init__(self, body: Any, count: int) -> None:
        super().__init__()
        self.body = _with_layers(body, slice(count, None))
        self.body.embeddings = _Given()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        if not len(self.body.encoder.layer):
            return states
        out: Tensor = self.body(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return out


def halves(body: Any, count: int) -> tuple[Lower, Upper]:
    """An encoder cut above its lowest `count` layers. Raises Refused where it has other parts."""
    parts = {name for name, part in body.named_children() if part is not None}
    if parts - {"pooler"} != {"embeddings", "encoder"} or not hasattr(body.encoder, "layer"):
        raise Refused(
            f"model.tune: a {type(body).__name__} is not made of embeddings and layers alone, so "
            "its lower layers cannot be kept; say model.tune=whole"
        )
    return Lower(body, count), Upper(body, count)


def _with_layers(body: Any, chosen: slice) -> Any:
    """The model with some of its layers; their weights are the model's own."""
    import copy

    part = copy.copy(body)
    part._modules = dict(body._modules)
    part.encoder = copy.copy(body.encoder)
    part.encoder._modules = dict(body.encoder._modules)
    part.encoder.layer = nn.ModuleList(list(body.encoder.layer)[chosen])
    return part


class TextNet(nn.Module):
    """What is trained: all of an encoder or its upper layers, and a head over the tokens' mean.

    `lower` is held apart: it is no part of what is saved, and no training changes it.
    """

    def __init__(self, body: Any, count: int | None, labels: int) -> None:
        super().__init__()
        self.held: list[Lower] = []
        if count is None:
            self.body = body
        else:
            lower, self.body = halves(body, count)
            self.held.append(lower.eval().requires_grad_(False))
        self.out = nn.Linear(body.config.hidden_size, labels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def logits(self, given: Tensor, mask: Tensor) -> Tensor:
        """(N, L), of ids (N, T) where all is trained, else of the lower layers' states."""
        if self.held:
            states = self.body(given, mask)
        else:
            states = self.body(input_ids=given, attention_mask=mask).last_hidden_state
        share = mask[..., None].to(states.dtype)
        pooled: Tensor = (states * share).sum(dim=1) / share.sum(dim=1)
        return self.out(pooled)


class TextGraph(nn.Module):
    """What answers: ids and mask (N, T) to probabilities (N, L)."""

    def __init__(self, net: TextNet) -> None:
        super().__init__()
        self.net = net
        self.lower = net.held[0] if net.held else None

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        given = ids if self.lower is None else self.lower(ids, mask)
        return torch.softmax(self.net.logits(given, mask), dim=1)


def adapted(body: Any, rank: int) -> Any:
    """Low-rank adapters beside its linear maps, which alone are trained (Hu et al. 2021)."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=LORA_DROPOUT, target_modules=list(TARGETS)
    )
    return inject_adapter_in_model(config, body)


def merged(net: TextNet) -> TextNet:
    """A copy in which adapters are part of the maps they lie beside."""
    import copy

    from peft.tuners.tuners_utils import BaseTunerLayer

    net = copy.deepcopy(net)
    for name, part in list(net.named_modules()):
        if isinstance(part, BaseTunerLayer):
            part.merge()
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, part.get_base_layer())
    return net
