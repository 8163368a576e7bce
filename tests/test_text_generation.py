"""text_generation: the network against GPT-2's, and the n-gram it must beat.

Also packing, the cache, sampling, and bad input.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from recipes.text_generation import report
from recipes.text_generation.label import label
from recipes.text_generation.ngram import WittenBell
from recipes.text_generation.recipe import TextGeneration
from recipes.text_generation.schema import Question
from recipes.text_generation.size import SIZES, Size, budget
from recipes.text_generation.spans import copied, spans
from recipes.text_generation.tokens import Tokens, trained
from tests.support.hardware import HARDWARE
from tests.support.texts import TEXTS, corpus_of, examples, fitted, packed, splits
from tidemill import contract
from tidemill.contract import Splits
from tidemill.kit import sampling

SMALL = {
    "layers": 2,
    "heads": 2,
    "width": 64,
    "context": 48,
    "vocabulary": 400,
    "batch": 8,
    "steps": 120,
    "lr": 0.01,
    "samples": 2,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small model that has learned eight texts by heart, exported."""
    folder = splits(tmp_path_factory.mktemp("splits"), TEXTS, TEXTS[:2])
    recipe = TextGeneration(**SMALL)
    learner, metrics = fitted(recipe, folder)
    package = tmp_path_factory.mktemp("package")
    parity = learner.export(package)
    application = recipe.application()
    return SimpleNamespace(
        recipe=recipe,
        application=application,
        learner=learner,
        folder=folder,
        module=learner.module,
        data=learner.data,
        metrics=metrics,
        package=package,
        parity=parity,
        session=application.open(package),
    )


# Sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_size_has_as_many_parameters_as_it_says(name: str) -> None:
    import torch

    from recipes.text_generation.transformer import Transformer

    with torch.device("meta"):
        net = Transformer(SIZES[name])
    assert sum(weight.numel() for weight in net.parameters()) == SIZES[name].parameters()


def test_the_sizes_are_those_that_are_published() -> None:
    assert SIZES["124m"].parameters() == 124_439_808  # GPT-2 small
    assert SIZES["350m"].parameters() == 354_823_168  # GPT-2 medium
    assert {name: round(size.parameters() / 1e6) for name, size in SIZES.items()} == {
        "tiny": 2,
        "small": 29,
        "124m": 124,
        "350m": 355,
        "1b": 1311,
    }


def test_the_largest_size_takes_a_step_on_the_meta_device() -> None:
    import torch

    from recipes.text_generation.transformer import Transformer

    with torch.device("meta"):
        net = Transformer(SIZES["1b"])
        ids = torch.zeros(2, 2048, dtype=torch.long)
        logits = net.packed(ids, ids, ids)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    assert logits.shape == (2, 2048, 50_257)
    assert all(
        weight.grad is not None and weight.grad.shape == weight.shape for weight in net.parameters()
    )


def test_shards_hold_their_share_and_ddp_holds_all() -> None:
    one, ddp, fsdp = (
        budget(SIZES["1b"], 16, 10, devices, strategy)
        for devices, strategy in ((1, "auto"), (8, "ddp"), (8, "fsdp"))
    )
    assert (
        ddp["optimiser_mb"] == one["optimiser_mb"] == round(SIZES["1b"].parameters() * 8 / 1e6, 1)
    )
    assert fsdp["optimiser_mb"] == pytest.approx(one["optimiser_mb"] / 8, abs=0.1)
    assert ddp["tokens"] == one["tokens"] == 16 * 2048 * 10
    assert ddp["activations_mb"] == pytest.approx(one["activations_mb"] / 8, abs=0.1)
    assert (
        budget(SIZES["1b"], 16, 10, checkpointing=True)["activations_mb"]
        < one["activations_mb"] / 5
    )


def test_the_plan_command_counts_before_anything_is_spent() -> None:
    from tidemill.cli.plan import planned
    from tidemill.runtime.errors import Refused

    told = planned("text_generation", ["size=1b", "trainer=fsdp", "model.optimiser=adamw"])
    assert (told["parameters"], told["strategy"], told["devices"]) == (
        SIZES["1b"].parameters(),
        "fsdp",
        8,
    )
    with pytest.raises(Refused, match="languages has no plan"):
        planned("languages", [])
    with pytest.raises(Refused, match=r"size='2b'.*'124m'"):
        planned("text_generation", ["size=2b"])


# GPT-2's layout ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A folder as transformers writes it, with random weights and a tokenizer of its own."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    tokens = Tokens(trained(TEXTS, 400))
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=400,
            n_positions=64,
            n_embd=64,
            n_layer=3,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokens.body)
    return SimpleNamespace(folder=folder, model=model, tokens=tokens)


def test_gpt2s_weights_give_gpt2s_loss_and_go_back_to_where_they_came_from(
    gpt2: SimpleNamespace, tmp_path: Path
) -> None:
    import torch
    import transformers
    from safetensors.torch import save_file

    from recipes.text_generation import folder
    from recipes.text_generation.size import start_size
    from recipes.text_generation.transformer import Transformer

    net = Transformer(start_size(str(gpt2.folder))).eval()
    folder.load(net, str(gpt2.folder))
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 400, (3, 64)))
    places = torch.arange(64)[None].expand(3, 64)
    with torch.no_grad():
        ours = torch.nn.functional.cross_entropy(
            net.packed(ids, places, torch.zeros_like(ids))[:, :-1].flatten(0, 1),
            ids[:, 1:].flatten(),
        )
        theirs = gpt2.model(ids, labels=ids).loss
    assert abs(float(ours - theirs)) < 1e-4
    save_file(folder.to_hub(net), str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((gpt2.folder / "config.json").read_text())
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    assert all(
        torch.equal(weight, again.state_dict()[name])
        for name, weight in gpt2.model.state_dict().items()
    )


def test_low_rank_additions_alone_are_trained_and_merge_into_the_same_answers(
    gpt2: SimpleNamespace, tmp_path: Path
) -> None:
    import torch

    from recipes.text_generation.transformer import merged

    recipe = TextGeneration(start=str(gpt2.folder), lora_rank=4, batch=4, steps=15, lr=0.02)
    learner, _ = fitted(recipe, splits(tmp_path, TEXTS, TEXTS[:2]))
    module, data = learner.module, learner.data
    assert data.tokens.body == gpt2.tokens.body and data.context == 64
    own = gpt2.model.state_dict()
    assert torch.equal(
        module.net.state_dict()["layers.0.qkv.base_layer.weight"],
        own["transformer.h.0.attn.c_attn.weight"].T,
    )
    plain = merged(module.net)
    assert not torch.allclose(
        plain.state_dict()["layers.0.qkv.weight"], own["transformer.h.0.attn.c_attn.weight"].T
    )
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(
            plain.packed(ids, ids, ids * 0), module.net.packed(ids, ids, ids * 0), atol=1e-4
        )


def test_a_training_can_begin_where_a_package_ended(made: SimpleNamespace) -> None:
    recipe = TextGeneration(start=str(made.package), steps=1)
    module: Any = recipe.learner(Splits(made.folder, 1)).module  # type: ignore[attr-defined]
    assert recipe.shape() == made.recipe.shape()
    assert all(
        (weight == made.module.net.state_dict()[name]).all()
        for name, weight in module.net.state_dict().items()
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"lora_rank": 4}, "needs a `start`"),
        ({"start": "there", "width": 64}, "folder's own width"),
        ({"vocabulary": 200}, "under 257"),
        ({"width": 100, "heads": 3}, "does not divide"),
        ({"size": "2b"}, "124m"),
    ],
)
def test_fields_that_make_no_sense_are_named(fields: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TextGeneration(**fields)


def test_a_start_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no size.json .* no config.json"):
        TextGeneration(start=str(tmp_path)).shape()


# Training ----------------------------------------------------------------------------------------


def test_a_documents_loss_does_not_depend_on_its_neighbours(made: SimpleNamespace) -> None:
    import torch

    documents = made.data.tokens.documents(TEXTS[:4])
    context = sum(len(item) - 1 for item in documents)

    def losses(chosen: list[np.ndarray]) -> np.ndarray:
        ids, targets, places, owner = (
            torch.from_numpy(part) for part in packed(corpus_of(chosen), context)
        )
        with torch.no_grad():
            logits = made.module.net.packed(ids, places, owner)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
        ).numpy()

    together, at = losses(documents), 0
    for document in documents:
        alone = losses([document])[: len(document) - 1]
        assert np.abs(together[at : at + len(alone)] - alone).max() < 1e-4
        at += len(alone)


def test_packing_asks_every_token_once_and_counts_places_anew() -> None:
    documents = [np.array([0, 5, 6, 0]), np.array([0, 7, 0]), np.array([0, 8, 9, 8, 0])]
    ids, targets, places, owner = packed(corpus_of(documents), 4)
    asked = targets != -100
    assert ids[asked].tolist() == [0, 5, 6, 0, 7, 0, 8, 9, 8] and targets[asked].tolist() == [
        5,
        6,
        0,
        7,
        0,
        8,
        9,
        8,
        0,
    ]
    assert places.tolist()[:2] == [
        [0, 1, 2, 0],
        [0, 0, 1, 2],
    ]  # a block's beginning counts anew, too
    assert owner.tolist()[:2] == [[0, 0, 0, 1], [1, 2, 2, 2]] and ids.shape == (3, 4)


def test_it_learns_eight_texts_by_heart(made: SimpleNamespace) -> None:
    assert made.metrics["train_loss"] < 0.5
    answer = made.session.predict([Question(prompt="Everyone has the right", temperature=0)])[0]
    assert answer.text == " to life, liberty and security of person." and answer.finish == "end"


def test_a_step_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    """Though a block with few targets counts little: whole, added up, or halved for its memory."""
    import torch

    from tidemill.contract import Run
    from tidemill.engines.config.schema import Trainer

    fields = {**SMALL, "layers": 1, "context": 16, "optimiser": "adamw", "samples": 0}
    folder = splits(tmp_path, TEXTS[:3], TEXTS[:2])
    weights = []
    for batch, accumulate, parts in ((8, 1, 1), (1, 8, 1), (4, 2, 4)):
        recipe = TextGeneration(**{**fields, "batch": batch, "steps": 2 * accumulate})
        learner: Any = recipe.learner(Splits(folder, 1))
        settings = {**HARDWARE, "precision": "64-true", "accumulate": accumulate}
        learner.fit(Run(Trainer(**settings, gradient_clip=1.0), 1, 1, "test", parts=parts))
        weights.append(learner.module.net.state_dict())
    targets = (packed(learner.data.train, learner.data.context)[1] != -100).sum(axis=1)
    assert len(set(targets.tolist())) > 1
    for other in weights[1:]:
        for name, weight in weights[0].items():
            assert torch.allclose(weight, other[name], rtol=1e-9, atol=1e-9), name


def test_same_seed_same_weights(made: SimpleNamespace) -> None:
    recipe = made.recipe.model_copy(update={"steps": 5})
    one, two = (fitted(recipe, made.folder)[0].module.net.state_dict() for _ in range(2))
    assert all((one[name] == two[name]).all() for name in one)


def test_what_training_says_of_valid_is_what_the_session_says(made: SimpleNamespace) -> None:
    """Packed into one block and in torch, against whole texts in ONNX Runtime."""
    recipe = made.recipe.model_copy(update={"batch": 3, "steps": 5, "context": 80})
    folder = made.folder.parent / "one text a block"
    folder.mkdir(exist_ok=True)
    kept = [text for text in TEXTS if 60 < len(text) < 76][:2]
    learner, metrics = fitted(recipe, splits(folder, TEXTS, kept))
    learner.export(folder)
    whole = sum(len(ids) - 1 for ids in learner.data.tokens.documents(kept)) <= 80
    bits = made.application.open(folder).nats(kept).sum() / math.log(2) / sum(map(len, kept))
    assert whole and metrics["valid_bits_per_char"] == pytest.approx(bits, rel=1e-4)


def test_the_tokenizer_never_sees_valid_or_test(made: SimpleNamespace, tmp_path: Path) -> None:
    folder = splits(tmp_path, TEXTS, ["qqxx qqxx " * 50])
    assert made.recipe.learner(Splits(folder, 1)).data.tokens.body == made.data.tokens.body


def test_the_tokenizer_gives_every_text_back_and_none_can_forge_the_end() -> None:
    tokens = Tokens(trained(TEXTS, 400))
    for text in (*TEXTS, "", "\n\t 😀 <|endoftext|> \u0000"):
        ids = tokens.ids([text])[0]
        assert tokens.text(list(ids)) == text and tokens.end not in ids
    assert trained(TEXTS, 400) == tokens.body


# The exported step -------------------------------------------------------------------------------


def test_the_exported_step_agrees_with_torch(made: SimpleNamespace) -> None:
    assert made.parity < 1e-3


def test_the_cache_gives_what_reading_all_again_gives(made: SimpleNamespace) -> None:
    ids = made.session.tokens.documents(TEXTS[:1])[0][None]
    whole = made.session.step(ids)[0]
    past, logits = None, []
    for at in range(ids.shape[1]):
        step, past = made.session.step(ids[:, at : at + 1], past)
        logits.append(step[:, 0])
    assert np.abs(whole - np.stack(logits, axis=1)).max() < 1e-3


def test_likelihoods_are_the_products_of_steps_however_texts_are_batched(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = made.session.nats(TEXTS)
    monkeypatch.setattr("recipes.text_generation.session.CELLS", 1)
    assert np.allclose(together, [made.session.nats([text])[0] for text in TEXTS], atol=1e-2)
    ids = made.session.tokens.documents(["ab"])[0]
    logits = made.session.step(ids[None, :-1])[0][0].astype(float)
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert made.session.nats(["ab"])[0] == pytest.approx(
        -np.log(chance[np.arange(len(ids) - 1), ids[1:]]).sum(), abs=1e-3
    )


def test_each_token_of_a_text_longer_than_the_context_is_counted_once(
    made: SimpleNamespace,
) -> None:
    text = " ".join(TEXTS[:4])
    ids = made.session.tokens.documents([text])[0]
    context, half = made.session.context, made.session.context // 2
    assert len(ids) > 2 * context
    lost, asked = 0.0, 0
    for start in range(0, len(ids), half):
        part = ids[start : start + context + 1]
        logits = made.session.step(part[None, :-1])[0][0].astype(float)
        nats = -np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[
            np.arange(len(part) - 1), part[1:]
        ]
        new = start + len(part) - 1 - asked
        lost, asked = lost + nats[len(nats) - new :].sum(), asked + new
        if asked == len(ids) - 1:
            break
    assert made.session.nats([text])[0] == pytest.approx(lost, rel=1e-4)


def test_same_seed_same_answer_and_another_seed_another(made: SimpleNamespace) -> None:
    ask = [
        Question(prompt="", temperature=2.0, top_p=1.0, max_tokens=30, seed=seed)
        for seed in (1, 1, 2)
    ]
    one, again, other = (answer.text for answer in made.session.predict(ask))
    assert one == again != other


def test_a_stop_ends_the_answer_before_it(made: SimpleNamespace) -> None:
    answer = made.session.predict(
        [Question(prompt="Everyone has", temperature=0, stop=["nowhere", " liberty"])]
    )[0]
    assert (answer.text, answer.finish) == (" the right to life,", "stop")


def test_an_empty_prompt_begins_a_text(made: SimpleNamespace) -> None:
    answer = made.session.predict([Question(prompt="", temperature=0)])[0]
    assert answer.text and answer.limit is None


def test_a_prompt_longer_than_the_context_is_answered_from_its_end_and_says_so(
    made: SimpleNamespace,
) -> None:
    long = " ".join(TEXTS[:4])
    answer = made.session.predict([Question(prompt=long, max_tokens=8, temperature=0)])[0]
    count = len(made.session.tokens.ids([long])[0])
    assert (
        answer.limit == f"the prompt has {count} tokens; the answer goes on from its last 40"
        and 1 <= answer.tokens <= 8
    )


def test_an_answer_may_outgrow_the_context(made: SimpleNamespace) -> None:
    question = Question(
        prompt="a", max_tokens=200, temperature=5, top_p=1.0, repetition_penalty=2, seed=3
    )
    answers = [
        made.session.predict([question.model_copy(update={"seed": seed})])[0] for seed in range(8)
    ]
    assert max(answer.tokens for answer in answers) > made.session.context


def test_a_streamed_answer_is_the_same_answer(made: SimpleNamespace) -> None:
    question = Question(prompt="すべて人は", temperature=0)
    assert "".join(made.session.stream(question)) == made.session.predict([question])[0].text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("top_p", 0),
        ("top_k", -1),
        ("repetition_penalty", 0.5),
        ("max_tokens", 0),
        ("seed", -1),
        ("stop", [""]),
        ("stop", ["x"] * 9),
        ("prompt", "x" * 100_001),
        ("tempreature", 1),
    ],
)
def test_an_invalid_option_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Question(**{field: value})


@pytest.mark.parametrize("side_by_side", [True, False], ids=["joined", "a graph of before"])
def test_an_answer_is_the_same_whoever_joins_and_leaves(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, side_by_side: bool
) -> None:
    """Also where it outgrows the context, and where rows are of many lengths."""
    from tidemill.families.generator import Decoder

    if not side_by_side:
        monkeypatch.setitem(made.session.graphs, "model", Before(made.session.graphs["model"]))
        monkeypatch.setattr(made.session, "side_by_side", False)
    long = " ".join(TEXTS[:3])
    questions = [
        Question(prompt=prompt, max_tokens=most, temperature=temperature, seed=most)
        for prompt, most, temperature in (
            ("Everyone", 60, 0),
            (long, 20, 0),
            ("", 3, 0),
            ("Niemand darf", 90, 2.0),
            (long, 70, 1),
        )
    ]
    alone = [made.session.predict([question])[0] for question in questions]
    drafts = [made.session.draft(question)[0] for question in questions]
    gone = made.session.draft(questions[0])[0]
    decoder = Decoder(made.session)
    decoder.join(drafts[:1])
    decoder.step()
    decoder.join([gone, *drafts[1:3]])
    for late in drafts[3:]:
        decoder.step()
        decoder.step()
        decoder.join([late])
    decoder.leave(gone)
    assert len(decoder.batches) == (1 if side_by_side else len(decoder.drafts))
    while decoder.batches:
        decoder.step()
    assert [draft.text for draft in drafts] == [answer.text for answer in alone]
    assert [draft.finish for draft in drafts] == [answer.finish for answer in alone]
    assert gone.finish is None


class Before:
    """The graph of an earlier package, which knows no filling."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> Any:
        begins = np.zeros(len(inputs["ids"]), dtype=np.int64)
        assert "begins" not in inputs
        return self.graph.run(names, {**inputs, "begins": begins})


# Sampling ----------------------------------------------------------------------------------------


def test_the_temperature_flattens_and_zero_takes_the_first_of_the_likeliest() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3]))
    assert np.allclose(sampling.chances(logits, 1.0), [0.1, 0.6, 0.3])
    assert np.allclose(
        sampling.chances(logits, 2.0), np.sqrt([0.1, 0.6, 0.3]) / np.sqrt([0.1, 0.6, 0.3]).sum()
    )
    assert sampling.chances(np.array([1.0, 3.0, 3.0]), 0).tolist() == [0, 1, 0]


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.25, 0.15]))
    assert np.allclose(sampling.chances(logits, 1.0, top_k=2), [0, 2 / 3, 1 / 3, 0])
    assert np.allclose(sampling.chances(logits, 1.0, top_p=0.6), [0, 2 / 3, 1 / 3, 0])
    assert np.allclose(sampling.chances(logits, 1.0, top_p=0.01), [0, 1, 0, 0])
    assert np.allclose(sampling.chances(logits, 1.0, top_k=9), [0.1, 0.5, 0.25, 0.15])


def test_a_penalty_makes_what_occurred_less_likely_on_both_sides_of_zero() -> None:
    assert sampling.penalised(np.array([2.0, -2.0, 2.0]), [0, 1, 1], 2.0).tolist() == [
        1.0,
        -4.0,
        2.0,
    ]


def test_draws_follow_the_distribution_and_never_take_what_has_no_chance() -> None:
    random = np.random.default_rng(0)
    drawn = (
        np.bincount(
            [sampling.drawn(np.array([0.0, 0.25, 0.75, 0.0]), random) for _ in range(4000)],
            minlength=4,
        )
        / 4000
    )
    assert drawn[0] == drawn[3] == 0 and drawn[1] == pytest.approx(0.25, abs=0.03)


# What it must beat -------------------------------------------------------------------------------


def test_witten_bell_by_hand() -> None:
    model = WittenBell(["ab"], 2)  # a, b, the end and an escape: 4; each of a, b, end once
    first = (1 + 3 / 4) / 6
    assert model.chances(["ab"])[1] == pytest.approx((1 + first) / 2)  # after "a" came one b
    assert WittenBell(["ab"], 1).chances(["ab"]).tolist() == pytest.approx([first] * 3)
    assert model.chances(["az"])[1] == pytest.approx((0 + (0 + 3 / 4) / 6) / 2)


@pytest.mark.parametrize("history", ["", "E", "Everyone ha", "zzzz", "права"])
def test_the_chances_after_any_history_add_up_to_one(history: str) -> None:
    model = WittenBell(TEXTS, 5)
    following = [model.chances([history + one])[len(history)] for one in [*model.places, "\u1234"]]
    assert sum(following) + model.chances([history])[-1] == pytest.approx(1.0)


def test_a_character_never_seen_costs_its_bytes() -> None:
    model = WittenBell(TEXTS, 5)
    escaped = -np.log(model.chances(["☃"])).sum()
    assert model.nats(["☃"])[0] == pytest.approx(escaped + 3 * math.log(256))
    assert math.isfinite(model.nats(["\ud800", ""]).sum())


def test_a_longer_history_helps_on_real_text() -> None:
    unigram, five = (WittenBell(TEXTS[1:], order).nats(TEXTS[:1])[0] for order in (1, 5))
    assert five < unigram


# What is counted ---------------------------------------------------------------------------------


def test_bits_per_character_are_the_bits_of_all_over_the_characters_of_all() -> None:
    frame = report.frame(["abcd", "ä"], ["", ""], np.array([math.log(2) * 8, math.log(2) * 4]))
    weights = np.array([[1.0, 1.0], [1.0, 0.0]])
    found = TextGeneration.application().metric(frame, weights)
    assert found["bits_per_char"].tolist() == pytest.approx([12 / 5, 2.0]) and found[
        "bits_per_byte"
    ].tolist() == pytest.approx([12 / 6, 2.0])


def test_variety_repetition_and_copying_are_counted() -> None:
    seen = spans([TEXTS[0], "short"])
    assert copied("xx" + TEXTS[0][5:40] + "yy", seen) == 35
    assert copied("nothing of this was ever there before", seen) == 0 == copied("short", seen)
    counted = report.counts("a b a b a b a b", seen)
    assert (counted["pairs"], counted["pairs_new"], counted["fours"], counted["fours_again"]) == (
        7,
        2,
        5,
        3,
    )
    assert report.counts("権利を有する権利を有する権利を有する", seen)["pairs"] > 5


def test_score_gives_a_row_an_example_and_the_baselines_the_same(made: SimpleNamespace) -> None:
    asked = examples(TEXTS[:5])
    ours = made.application.evaluate(made.session, asked)
    theirs = made.application.baselines(made.folder, asked, {})
    assert set(theirs) == {"baseline", "6-gram", "trivial"}
    for frame in theirs.values():
        assert (
            frame.columns.tolist() == ours.columns.tolist()
            and len(frame) == 5
            and frame.notna().all().all()
        )
    assert ours["asked"].sum() == 2 and (ours["chars"] == theirs["baseline"]["chars"]).all()
    figures = [
        float(made.application.metric(frame, np.ones((1, 5)))["bits_per_char"][0])
        for frame in (ours, theirs["baseline"], theirs["trivial"])
    ]
    assert figures == sorted(figures)


def test_the_pictures_show_every_language_and_what_was_said(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    told = examples(TEXTS[:3]).assign(
        slices=[json.dumps({"language": name}) for name in ("eng", "eng", "deu")]
    )
    frame = made.application.evaluate(made.session, told)
    assert frame["language"].tolist() == ["eng", "eng", "deu"]
    assert all(path.stat().st_size for path in made.application.figures(frame, tmp_path))
    assert (
        (tmp_path / "samples.md").read_text().count("\n- ") + 1
        == 2
        == int((frame["sample"] != "").sum())
    )


def test_a_label_keeps_the_languages_named_and_units_join_translations() -> None:
    base = {
        "doc_id": "d",
        "letter_script": "Latn",
        "original": "",
        "text": "Some text",
        "source": "udhr",
    }
    rows = pd.DataFrame(
        [
            {**base, "language": "deu", "part": "article-21", "uri": "a"},
            {**base, "language": "eng", "part": "article-21-2", "uri": "b"},
            {**base, "language": "xho", "part": "article-21", "uri": "c"},
            {**base, "language": "", "source": "tales", "part": "row-3", "uri": "e"},
            {
                **base,
                "language": "de",
                "source": "software",
                "part": "msg-1",
                "uri": "f",
                "original": "Save",
            },
        ]
    )
    found = label(rows, {"languages": {"deu": ["de"], "eng": []}, "given": {"tales": "eng"}})
    assert [json.loads(item)["language"] for item in found["slices"]] == [
        "deu",
        "eng",
        "",
        "eng",
        "deu",
    ]
    assert found["unit"].tolist() == [
        "article-21",
        "article-21",
        "article-21",
        "d",
        "Save",
    ]
    assert (
        found["dropped"].isna().tolist() == [True, True, False, True, True]
        and found["dropped"][2] == "not a language of this application"
    )
    with pytest.raises(ValueError, match="'de' is given to deu and to ger"):
        label(rows, {"languages": {"deu": ["de"], "ger": ["de"]}})
    assert label(rows[3:4], {})["dropped"].tolist() == ["its source names no language"]


def test_the_input_and_the_target_are_what_the_server_takes_and_gives() -> None:
    kind = contract.application("text_generation")
    assert (
        kind.Output.model_validate_json(
            label(
                pd.DataFrame(
                    [
                        {
                            "doc_id": "d",
                            "letter_script": "Latn",
                            "original": "",
                            "text": "x",
                            "source": "s",
                            "language": "en",
                            "part": "",
                            "uri": "u",
                        }
                    ]
                ),
                {},
            )["target"][0]
        ).finish
        == "end"
    )
    assert Size(**json.loads(json.dumps(SIZES["tiny"].__dict__))) == SIZES["tiny"]


# Another data set --------------------------------------------------------------------------------


@pytest.mark.system
def test_another_set_of_pages_needs_configuration_alone(clone) -> None:
    """The manual of a program, a page a document, instead of declarations, strings and tales."""
    (clone.folder / "conf/source/manual.yaml").write_text(
        yaml.safe_dump(
            {
                "kind": "package",
                "licence": "GPL-3.0-or-later",
                "members": "*/_sources/widgets/*.md.txt",
                "package": yaml.safe_load((clone.folder / "conf/source/tales.yaml").read_text())[
                    "package"
                ],
                "selector": [{"kind": "whole", "name": "page"}],
                "clean": {"min_letters": 200},
            }
        )
    )

    def change(body: dict) -> None:
        body.update(
            sources=[{"name": "manual"}],
            label={"given": {"manual": "eng"}},
            model={**SMALL, "steps": 30},
        )
        body["select"].update(kinds=["page"])
        body["split"].update(
            rules=[
                {"source": "manual", "by": "hash", "column": "doc_id", "valid": 0.1, "test": 0.3}
            ]
        )
        body["score"].update(resamples=200, requests=60)
        for gate in body["gates"]:
            gate.update({"required": ["manual"]} if gate.get("required") else {})

    clone.edit("recipe/text_generation.yaml", change)
    done = clone.tidemill("run", "text_generation", "--dry-run", "--json", timeout=500)
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout)
    assert end["state"] == "DryRun"
    # A page is too few rows for a claim, and thirty steps would not carry one.
    assert end["because"].startswith("HOLD") and "baseline" in end["because"]
