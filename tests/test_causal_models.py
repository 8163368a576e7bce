"""Weights of the world's layouts: opened, trained in place, and left as transformers reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recipes.text_generation import folder
from recipes.text_generation.recipe import TextGeneration
from recipes.text_generation.schema import Question
from recipes.text_generation.size import Size, UnusableStart
from recipes.text_generation.tokens import Tokens, trained
from recipes.text_generation.transformer import Transformer
from tests.support import causal_models
from tests.support.texts import TEXTS, corpus_of, fitted, packed, splits
from tidemill.contract import Splits

TOKENS = Tokens(trained(TEXTS, 400))


def opened(path: Path, **fields: Any) -> Any:
    """A learner of a folder, not begun."""
    rows = splits(path, TEXTS, TEXTS[:2])
    return TextGeneration(start=str(path), **fields).learner(Splits(rows, 1))


# What a network made here leaves ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "norm", "kind"),
    [("learned", "layer", "gpt2"), ("rotary", "rms", "arcee"), ("rotary", "layer", "starcoder2")],
)
def test_a_network_made_here_is_one_of_transformers(
    tmp_path: Path, positions: Any, norm: Any, kind: str
) -> None:
    """Also with fewer channels between its maps, and back again."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    net = Transformer(Size(2, 4, 32, 64, TOKENS.size, positions, norm, inner=0.75)).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    folder.save(net, tmp_path, TOKENS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.config.model_type == kind
    ids = torch.randint(TOKENS.size, (2, 40))
    places = torch.arange(40)[None].expand(2, 40)
    with torch.no_grad():
        ours = net.packed(ids, places, torch.zeros_like(ids))
        assert torch.allclose(ours, theirs(ids).logits, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    plain = tokenizer(TEXTS[2], add_special_tokens=False)["input_ids"]
    assert plain == TOKENS.ids([TEXTS[2]])[0].tolist()
    assert (tokenizer.eos_token_id, tokenizer.model_max_length) == (TOKENS.end, 64)
    again = Transformer(net.size)
    folder.load(again, str(tmp_path))
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_a_network_that_transformers_has_not_keeps_its_own_names(tmp_path: Path) -> None:
    net = Transformer(Size(1, 2, 16, 32, TOKENS.size, "learned", "rms"))
    folder.save(net, tmp_path, TOKENS)
    assert not (tmp_path / "config.json").exists()
    again = Transformer(net.size)
    folder.load(again, str(tmp_path))
    assert torch.equal(again.embedding.weight, net.embedding.weight)
    with pytest.raises(ValueError, match="no architecture of transformers has learned positions"):
        folder.to_hub(net)


# What is trained in place -------------------------------------------------------------------------


def logits(net: Any, documents: list[np.ndarray], context: int) -> Tensor:
    blocks = packed(corpus_of(documents), context)
    ids, _, places, owner = (torch.from_numpy(part) for part in blocks)
    with torch.no_grad():
        whole: Tensor = net.packed(ids, places, owner)
    return whole[0]


@pytest.mark.parametrize("kind", sorted(causal_models.ARCHITECTURES))
def test_no_document_sees_another_and_low_rank_additions_merge(tmp_path: Path, kind: str) -> None:
    causal_models.folder(kind, tmp_path, TOKENS)
    net = opened(tmp_path, lora_rank=2, steps=1).module.net.eval()
    documents = TOKENS.documents(["Everyone has", "Jeder hat das Recht"])
    together, at = logits(net, documents, 64), 0
    for document in documents:
        alone = logits(net, [document], len(document) - 1)
        assert torch.allclose(together[at : at + len(alone)], alone, atol=1e-5)
        at += len(alone)
    names = [name for name, weight in net.named_parameters() if weight.requires_grad]
    assert names and all(".lora_" in name for name in names)
    for name, weight in net.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    plain = net.merged()
    assert not any("lora" in name for name, _ in plain.named_parameters())
    assert torch.allclose(logits(plain, documents, 64), logits(net, documents, 64), atol=1e-4)


@pytest.mark.system
@pytest.mark.parametrize("kind", sorted(causal_models.ARCHITECTURES))
def test_torch_onnx_and_the_folder_that_leaves_agree(tmp_path: Path, kind: str) -> None:
    """Trained for some steps; logits, greedy answers, and a folder that can be begun from again."""
    from transformers import AutoModelForCausalLM

    start, package = tmp_path / "start", tmp_path / "package"
    start.mkdir(), package.mkdir()
    before = causal_models.folder(kind, start, TOKENS)
    recipe = TextGeneration(
        start=str(start), steps=4, batch=2, context=48, samples=0, optimiser="adamw"
    )
    learner, _ = fitted(recipe, splits(tmp_path, TEXTS, TEXTS[:2]))
    assert learner.export(package) < 1e-4
    session = recipe.application().open(package)
    theirs = AutoModelForCausalLM.from_pretrained(package)
    name, weight = next(iter(theirs.named_parameters()))
    assert not torch.equal(weight, before.get_parameter(name))
    ids = torch.tensor([session.prompt(TEXTS[0])])
    with torch.no_grad():
        both = torch.cat([theirs(ids).logits, learner.module.net.model(ids).logits])
    served = torch.from_numpy(session.step(ids.numpy())[0])
    assert torch.allclose(both, served.expand_as(both), atol=1e-4)
    questions = [Question(prompt=text, temperature=0, max_tokens=20) for text in ("All", TEXTS[4])]
    for question, answer in zip(questions, session.predict(questions), strict=True):
        prompt = session.prompt(question.prompt)
        whole = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[0]
        assert answer.text == session.spelled(whole[len(prompt) :].tolist())
    words = (package / "config.json").read_text() + (package / "tokenizer_config.json").read_text()
    assert str(tmp_path) not in words
    assert TextGeneration(start=str(package)).bounds()[1] == TOKENS.size


# Bad input ----------------------------------------------------------------------------------------


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    causal_models.folder("llama", tmp_path, TOKENS)
    return tmp_path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_without_weights_is_refused(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    with pytest.raises(UnusableStart, match=r"has no model.safetensors; name a folder that has it"):
        opened(llama).module  # noqa: B018
    torch.save({}, llama / "pytorch_model.bin")
    with pytest.raises(UnusableStart, match="pickled weights can run code and are not read"):
        opened(llama).module  # noqa: B018


def test_weights_of_another_shape_are_refused_in_one_line(llama: Path) -> None:
    change(llama / "config.json", hidden_size=64)
    with pytest.raises(UnusableStart, match=r"cannot be opened by transformers: [^\n]*$"):
        opened(llama).module  # noqa: B018


def test_weights_that_are_not_all_there_are_refused(llama: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnusableStart, match=r"1 weights are missing, model.layers.1.mlp.up_proj"):
        opened(llama).module  # noqa: B018


def test_a_file_that_is_cut_short_is_refused(llama: Path) -> None:
    whole = (llama / "model.safetensors").read_bytes()
    (llama / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableStart, match=r"cannot be opened by transformers: [^\n]*$"):
        opened(llama).module  # noqa: B018


def test_a_tokenizer_of_another_vocabulary_is_refused(llama: Path) -> None:
    (llama / "tokenizer.json").write_text(trained(TEXTS * 20, 600))
    with pytest.raises(UnusableStart, match=r"the tokenizer has \d+ tokens and the network 400"):
        opened(llama).data  # noqa: B018


def test_a_folder_without_a_tokenizer_is_refused(llama: Path) -> None:
    (llama / "tokenizer.json").unlink()
    with pytest.raises(UnusableStart, match=r"has no tokenizer.json; write it with AutoTokenizer"):
        opened(llama).data  # noqa: B018


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "config.json is not JSON"),
        ("[]", "names no model_type"),
        ('{"model_type": "llama", "vocab_size": 9}', "says no context"),
        ('{"model_type": "vit", "max_position_embeddings": 9}', "it is no causal model"),
        (
            '{"model_type": "llama", "vocab_size": 9, "max_position_embeddings": 8}',
            "was made for 8 at most",
        ),
    ],
)
def test_a_configuration_that_says_too_little_is_refused(
    tmp_path: Path, body: str, words: str
) -> None:
    (tmp_path / "config.json").write_text(body)
    context = 9 if "most" in words else 0
    with pytest.raises(UnusableStart, match=words):
        TextGeneration(start=str(tmp_path), context=context).bounds()


def test_shards_are_refused_of_a_network_of_transformers(llama: Path) -> None:
    assert "not cut into shards" in TextGeneration(start=str(llama)).unfit("fsdp")


def test_a_configuration_that_makes_no_network_gives_no_plan(tmp_path: Path) -> None:
    body = {"model_type": "no-such-model", "max_position_embeddings": 8, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(body))
    with pytest.raises(UnusableStart, match="cannot be opened by transformers"):
        TextGeneration(start=str(tmp_path)).plan(1, 1, "auto", "32-true")
