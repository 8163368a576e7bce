"""What a training of a causal model keeps in memory, and that it learns the same with less."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recipes.text_generation.data import NO_TARGET
from recipes.text_generation.hub import HubNetwork
from recipes.text_generation.loss import Head, nats_of, summed_nats
from recipes.text_generation.recipe import TextGeneration
from recipes.text_generation.size import UnusableStart
from recipes.text_generation.tokens import Tokens, trained
from tests.support import causal_models
from tests.support.peak import peak
from tests.support.texts import TEXTS, fitted, splits
from tidemill.contract import Splits

TOKENS = Tokens(trained(TEXTS, 400))
SMALL = {
    "layers": 2,
    "heads": 2,
    "width": 32,
    "context": 48,
    "vocabulary": 400,
    "batch": 4,
    "steps": 6,
    "samples": 0,
}
LOGITS_AT_ONCE = "recipes.text_generation.size.LOGITS_AT_ONCE"


# Logits in chunks ---------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 4),
    tokens=st.integers(1, 9),
    vocabulary=st.integers(1, 20),
    at_once=st.integers(1, 300),
    asked=st.floats(0, 1),
    factor=st.sampled_from([1.0, 0.3]),
    cap=st.sampled_from([None, 2.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_loss_in_chunks_is_that_of_all_logits_and_so_are_its_gradients(
    rows: int,
    tokens: int,
    vocabulary: int,
    at_once: int,
    asked: float,
    factor: float,
    cap: float | None,
    seed: int,
) -> None:
    """Whatever the masks of the rows are; also where nothing is asked at all."""
    drawn = torch.Generator().manual_seed(seed)
    targets = torch.randint(vocabulary, (rows * tokens,), generator=drawn)
    share = asked * torch.rand(rows, 1, generator=drawn)
    left_out = torch.rand(rows, tokens, generator=drawn) > share
    targets[left_out.flatten()] = NO_TARGET
    states = torch.randn(rows * tokens, 5, generator=drawn)
    matrix = torch.randn(vocabulary, 5, generator=drawn)
    bias = torch.randn(vocabulary, generator=drawn)

    def loss_and_gradients(in_chunks: bool) -> tuple[Tensor, ...]:
        leaves = [tensor.clone().requires_grad_() for tensor in (states, matrix, bias)]
        head = Head(leaves[1], leaves[2], factor, cap)
        if in_chunks:
            nats = summed_nats(head, leaves[0], targets)
        else:
            nats = nats_of(head.logits(leaves[0]), targets)
        return nats, *torch.autograd.grad(nats / 3, leaves)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LOGITS_AT_ONCE, at_once)
        pairs = zip(loss_and_gradients(True), loss_and_gradients(False), strict=True)
    for chunked, whole in pairs:
        assert torch.allclose(chunked, whole, rtol=1e-6, atol=1e-5)


HEADS: dict[str, dict[str, Any]] = {
    **causal_models.ARCHITECTURES,
    "gemma3_text": {**causal_models.ARCHITECTURES["gemma3_text"], "final_logit_softcapping": 0.1},
    "cohere": {**causal_models.COMMON, "logit_scale": 0.3},
    "granite": {**causal_models.COMMON, "logits_scaling": 3.0},
    "minicpm3": {**causal_models.COMMON, "num_key_value_heads": 4},  # divides its states by 1/8
    "dory": causal_models.COMMON,  # learns a factor for each token
}
"""Architectures by how they make logits of their states."""


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_every_architecture_has_the_same_loss_in_chunks(
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(causal_models.ARCHITECTURES, kind, HEADS[kind])
    causal_models.folder(kind, tmp_path, TOKENS)
    rows = splits(tmp_path, TEXTS, TEXTS[:2])
    recipe = TextGeneration(start=str(tmp_path), steps=1, batch=2, context=48)
    learner: Any = recipe.learner(Splits(rows, 1))
    module = learner.module.eval()
    batch = next(iter(learner.data.val_dataloader()))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    whole = module.loss(module.logits(batch), batch)
    expected = torch.autograd.grad(whole, weights, materialize_grads=True)
    monkeypatch.setattr(LOGITS_AT_ONCE, 10 * TOKENS.size)
    loss = module.batch_loss(batch)
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    for one, two in zip(gradients, expected, strict=True):
        largest = max(1.0, float(two.nan_to_num().abs().max()))
        # A random Dory's own gradients are NaN.
        assert torch.allclose(one, two, rtol=0, atol=1e-6 * largest, equal_nan=kind == "dory")
    assert ("its logits in a way of its own" in caplog.text) == (kind == "dory")
    assert (module.net.head() is None) == (kind == "dory")


def test_a_network_that_answers_nothing_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(causal_models.ARCHITECTURES, "minicpm3", causal_models.COMMON)
    causal_models.folder("minicpm3", tmp_path, TOKENS)
    with pytest.raises(UnusableStart, match=r"^a 'minicpm3' with this config[^\n]* tensor a \(4\)"):
        HubNetwork.opened(str(tmp_path), 48)


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_training_in_chunks_ends_with_the_same_weights(
    tmp_path: Path, optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = splits(tmp_path, TEXTS, TEXTS[:2])
    recipe = TextGeneration(**SMALL, optimiser=optimiser)
    whole, metrics = fitted(recipe, rows)
    monkeypatch.setattr(LOGITS_AT_ONCE, 20 * SMALL["vocabulary"])
    chunked, other = fitted(recipe, rows)
    assert other["valid_loss"] == pytest.approx(metrics["valid_loss"], rel=1e-5)
    weights = chunked.module.net.state_dict()
    for name, weight in whole.module.net.state_dict().items():
        assert torch.allclose(weight, weights[name], atol=1e-4), name


# Activations that are made again ------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_network_that_computes_its_layers_again_ends_with_the_same_weights(
    tmp_path: Path, dropout: float
) -> None:
    rows = splits(tmp_path, TEXTS, TEXTS[:2])
    one, two = (
        fitted(TextGeneration(**SMALL, dropout=dropout, checkpointing=checkpointing), rows)[0]
        for checkpointing in (False, True)
    )
    assert all(layer.checkpointing for layer in two.module.net.layers)
    weights = two.module.net.state_dict()
    for name, weight in one.module.net.state_dict().items():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize(("kind", "rank"), [("gpt2", 0), ("llama", 2), ("gemma3_text", 0)])
def test_networks_of_transformers_compute_layers_again_to_the_same_weights(
    tmp_path: Path, kind: str, rank: int
) -> None:
    causal_models.folder(kind, tmp_path, TOKENS)
    rows = splits(tmp_path, TEXTS, TEXTS[:2])
    fields = {"start": str(tmp_path), "steps": 3, "batch": 2, "context": 48, "lora_rank": rank}
    one, two = (
        fitted(TextGeneration(**fields, samples=0, checkpointing=checkpointing), rows)[0]
        for checkpointing in (False, True)
    )
    assert two.module.net.model.is_activation_checkpointing
    weights = two.module.net.state_dict()
    for name, weight in one.module.net.state_dict().items():
        assert torch.allclose(weight, weights[name], atol=1e-6), name


def kept_for_backward(module: Any, batch: Any) -> int:
    """Bytes that a step keeps beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module.net.packed_states(batch[0], *batch[2:])
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["own", "llama"])
def test_less_is_kept_where_layers_are_computed_again(tmp_path: Path, kind: str) -> None:
    rows = splits(tmp_path, TEXTS, TEXTS[:2])
    fields: dict[str, Any] = {**SMALL, "layers": 4}
    if kind != "own":
        causal_models.folder(kind, tmp_path, TOKENS)
        fields = {"start": str(tmp_path), "steps": 1, "batch": 2, "context": 48}
    kept = []
    for checkpointing in (False, True):
        learner: Any = TextGeneration(**fields, checkpointing=checkpointing).learner(
            Splits(rows, 1)
        )
        batch = next(iter(learner.data.val_dataloader()))
        kept.append(kept_for_backward(learner.module.train(), batch))
    assert kept[1] < kept[0] / 4


# What a plan says ---------------------------------------------------------------------------------


@pytest.mark.system
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_plan_says_the_memory_that_a_training_takes(checkpointing: bool) -> None:
    """Above what the process had before, on one core, with logits in chunks."""
    model = {**SMALL, "layers": 4, "heads": 4, "width": 256, "context": 256, "batch": 8}
    model |= {"vocabulary": 10_000, "steps": 2, "optimiser": "adamw"}
    measured = peak({**model, "checkpointing": checkpointing})
    assert measured.planned_mb == pytest.approx(measured.peak_mb, rel=0.15)
