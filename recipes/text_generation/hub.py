"""A network of transformers, trained in place: whatever AutoModelForCausalLM opens.

Shapes as in transformer.py, with H the heads of keys and values.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipes.text_generation.folder import pickled
from recipes.text_generation.loss import Head
from recipes.text_generation.size import CountedSize, UnusableStart
from tidemill.kit.as_data import AS_DATA
from tidemill.kit.pretrained import INDEX, unfit_index

log = logging.getLogger(__name__)


def counted_size(folder: str, context: int) -> CountedSize:
    """The shape that a folder's config.json makes, no weights read. Raises UnusableStart."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a configuration makes it raise
        reason = " ".join(str(error).split())[:300]
        raise UnusableStart(
            f"start '{folder}' cannot be opened by transformers: {reason}"
        ) from None
    text = config.get_text_config()
    return CountedSize(
        layers=int(text.num_hidden_layers),
        heads=int(text.num_attention_heads),
        width=int(text.hidden_size),
        context=context,
        vocabulary=int(text.vocab_size),
        positions="rotary",
        norm="rms",
        counted=sum(weight.numel() for weight in model.parameters()),
    )


class HubNetwork(nn.Module):
    """Any causal model of transformers, as the training here asks it."""

    def __init__(self, model: Any, context: int, apart: bool) -> None:
        super().__init__()
        self.model, self.context = model, context
        self.apart = apart  # whether its logits are what `head` makes of its backbone's states

    @classmethod
    def opened(cls, folder: str, context: int) -> HubNetwork:
        """The model of a folder. UnusableStart where its weights are not all there, or others."""
        from transformers import AutoModelForCausalLM

        path = Path(folder)
        if not (path / "model.safetensors").is_file() and not (path / INDEX).is_file():
            raise UnusableStart(f"start '{folder}' has no model.safetensors; {pickled(path)}")
        unfit = unfit_index(path)
        if unfit:
            raise UnusableStart(f"start '{folder}': {unfit}")
        opened: Any
        try:
            opened = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="sdpa",
                **AS_DATA,
            )
        except Exception as error:  # whatever a configuration or a file makes it raise
            reason = " ".join(str(error).split())[:300]
            raise UnusableStart(
                f"start '{folder}' cannot be opened by transformers: {reason}"
            ) from None
        model, report = opened
        missing = sorted(report["missing_keys"])
        if missing:
            raise UnusableStart(
                f"start '{folder}': {len(missing)} weights are missing, {missing[0]} first; "
                "bring all of them"
            )
        apart = comes_apart(model, min(context, 8))
        if not apart:
            log.warning(
                "model_type %r makes its logits in a way of its own, so those of a whole batch are "
                "in memory at once; lower model.batch where memory does not suffice",
                model.config.model_type,
            )
        return cls(model, context, apart)

    def packed_states(self, ids: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """States (B, T, D) of blocks that hold several documents, none of which sees another.

        transformers masks them by the places, which begin again with each document.
        """
        states: Tensor = self.model.base_model(
            input_ids=ids, position_ids=places, use_cache=False
        ).last_hidden_state
        return states

    def packed(self, ids: Tensor, places: Tensor, documents: Tensor) -> Tensor:
        """Their logits (B, T, V)."""
        logits: Tensor = self.model(input_ids=ids, position_ids=places, use_cache=False).logits
        return logits

    def head(self) -> Head | None:
        """What makes logits of its states; None where its architecture has a way of its own."""
        return head_of(self.model) if self.apart else None

    def matrices(self) -> set[int]:
        """The ids of the weights that are maps between channels, without those of tokens."""
        tables = {
            id(part.weight)
            for part in (self.model.get_input_embeddings(), self.model.get_output_embeddings())
            if part is not None
        }
        return {
            id(weight)
            for name, weight in self.model.named_parameters()
            if weight.dim() == 2 and id(weight) not in tables and ".lora_" not in name
        }

    def adapt(self, rank: int) -> None:
        """Add low-rank additions to its linear maps (Hu et al. 2021); they alone are trained."""
        from peft import LoraConfig, inject_adapter_in_model
        from transformers.pytorch_utils import Conv1D

        head = self.model.get_output_embeddings()
        targets = [
            name
            for name, part in self.model.named_modules()
            if isinstance(part, nn.Linear | Conv1D) and part is not head
        ]
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, bias="none")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on Conv1D, whose weights it turns by itself
            inject_adapter_in_model(config, self.model)

    def checkpoint_activations(self) -> None:
        """Have what is within each layer made again in the backward pass (Chen et al. 2016).

        UnusableStart where transformers has not that for the architecture.
        """
        if not self.model.supports_gradient_checkpointing:
            raise UnusableStart(
                f"model.checkpointing: transformers has none for {self.model.config.model_type!r}; "
                "say model.checkpointing=false"
            )
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    @torch.no_grad()
    def merged(self) -> HubNetwork:
        """A plain network that answers as this one, on the CPU."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        model = copy.deepcopy(self.model).cpu().eval()
        for name, part in list(model.named_modules()):
            if isinstance(part, BaseTunerLayer):
                part.merge()
                owner, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, part.get_base_layer())
        for weight in model.parameters():
            weight.requires_grad_(True)
        return HubNetwork(model, self.context, self.apart)

    def save(self, package: Path) -> None:
        """config.json, generation_config.json and model.safetensors, as transformers writes it."""
        self.model.save_pretrained(package, max_shard_size="1TB")


def head_of(model: Any) -> Head | None:
    """The head that most architectures of transformers have; None where weights say it is another.

    A layer of a kind of its own, or one more beside the backbone, may do nothing before training.
    """
    matrix = model.get_output_embeddings()
    if type(matrix) is not nn.Linear:
        return None
    known = {id(weight) for part in (model.base_model, matrix) for weight in part.parameters()}
    if any(id(weight) not in known for weight in model.parameters()):
        return None
    config = model.config.get_text_config()
    factor = getattr(config, "logit_scale", None) or 1.0  # Cohere's
    divisor = getattr(config, "logits_scaling", None) or 1.0  # Granite's, MiniCPM's
    cap = getattr(config, "final_logit_softcapping", None)
    return Head(matrix.weight, matrix.bias, factor / divisor, cap)


@torch.no_grad()
def comes_apart(model: Any, tokens: int) -> bool:
    """Whether the head's logits of the backbone's states are what the whole model answers.

    Asked of `tokens` tokens, since an architecture may do something else on its way to the logits.
    UnusableStart where the model answers nothing.
    """
    ids = torch.arange(tokens)[None] % model.get_input_embeddings().weight.shape[0]
    try:
        whole = model(input_ids=ids, use_cache=False).logits
    except Exception as error:  # whatever a configuration makes it raise
        reason = " ".join(str(error).split())[:300]
        kind = model.config.model_type
        raise UnusableStart(f"a {kind!r} with this config.json answers nothing: {reason}") from None
    head = head_of(model)
    if head is None or model.base_model is model:
        return False
    try:
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        apart = head.logits(states)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return apart.shape == whole.shape and torch.allclose(apart, whole, rtol=1e-4, atol=1e-5)


class HubStep(nn.Module):
    """The step that answers, with a cache of keys and values, of a network of transformers."""

    def __init__(self, net: HubNetwork) -> None:
        super().__init__()
        self.model = net.model
        config = self.model.config
        self.layers = config.num_hidden_layers
        self.window = getattr(config, "sliding_window", None)
        # Some architectures have layers of two kinds, and take a mask for each.
        self.kinds = sorted(set(getattr(config, "layer_types", None) or ()))

    def forward(
        self, ids: Tensor, begins: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Transformer.forward`."""
        from transformers import DynamicCache

        kept, asked = past_keys.shape[3], ids.shape[1]
        at = torch.arange(asked, device=ids.device) + kept
        places = (at[None] - begins[:, None]).clamp(min=0)
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past_keys[layer], past_values[layer], layer)
        answer = self.model(
            input_ids=ids,
            position_ids=places,
            attention_mask=self.masks(at, begins, kept + asked),
            cache=cache,
            use_cache=True,
        )
        layers: list[Any] = cache.layers
        keys = torch.stack([layer.keys for layer in layers])
        values = torch.stack([layer.values for layer in layers])
        return answer.logits, keys, values

    def masks(self, at: Tensor, begins: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        """Which of all S keys each token sees: (B, 1, T, S), for each kind of layer."""
        if not self.kinds:
            return seen(at, begins, length, self.window)
        windows = {"sliding_attention": self.window}
        return {kind: seen(at, begins, length, windows.get(kind)) for kind in self.kinds}


def seen(at: Tensor, begins: Tensor, length: int, window: int | None) -> Tensor:
    """Keys that are no filling and no later, of the last `window`; and each token itself."""
    keys = torch.arange(length, device=at.device)
    earlier = keys[None, :] <= at[:, None]
    if window is not None:
        earlier = earlier & (keys[None, :] > at[:, None] - window)
    itself = keys[None, :] == at[:, None]
    return (earlier & (keys[None, :] >= begins[:, None])[:, None] | itself)[:, None]


def cache_shape(net: HubNetwork, rows: int, kept: int) -> tuple[int, int, int, int, int]:
    """Of keys and values after `kept` tokens: (L, B, H, P, E).

    UnusableStart where the layers keep something else, or not all of them the same.
    """
    with torch.no_grad():
        answer = net.model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=True)
    layers = getattr(answer.get("cache"), "layers", [])
    shapes = {tuple(layer.keys.shape) for layer in layers if hasattr(layer, "keys")}
    if len(shapes) != 1 or len(layers) != net.model.config.num_hidden_layers:
        raise UnusableStart(
            f"model_type {net.model.config.model_type!r} keeps no keys and values of one shape in "
            "all layers, so it has no graph with a cache; tune one that does"
        )
    _, heads, _, channels = shapes.pop()
    return len(layers), rows, heads, kept, channels


def whole_text_difference(net: HubNetwork, step: Callable[..., Any], ids: Tensor) -> float:
    """Between the logits of a text read at once as transformers reads it, and by the step."""
    shape = cache_shape(net, len(ids), 0)
    nothing = torch.zeros(shape)
    with torch.no_grad():
        theirs = net.model(input_ids=ids, use_cache=False).logits
        ours = step(ids, torch.zeros(len(ids), dtype=torch.long), nothing, nothing)[0]
    return float((theirs - ours).abs().max())
