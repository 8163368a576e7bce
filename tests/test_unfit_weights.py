"""Folders and hubs whose files are not what they say: one line, before anything is trained."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.text_generation.size import UnusableStart, hub_bounds, start_size
from recipes.text_generation.tokens import Tokens, trained
from tidemill.kit.pretrained import INDEX, check_bytes, unfit_index
from tidemill.runtime.errors import Refused

GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 8}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"a": "../other.safetensors"}, r"names '../other.safetensors', no safetensors of this"),
        ({"a": "/etc/passwd"}, "no safetensors of this folder"),
        ({"a": "model-1.bin"}, "no safetensors of this folder"),
        ({"a": "model-1.safetensors"}, "names model-1.safetensors, which is not there"),
        ({"a": 5}, "no safetensors of this folder"),
        ([], "is no index of shards"),
        (None, "is no index of shards"),
    ],
)
def test_an_index_names_the_folders_own_shards(tmp_path: Path, index: object, words: str) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": index}) if index is not None else "[")
    assert words in unfit_index(tmp_path)
    (tmp_path / "model.safetensors").touch()  # which is read in the shards' place
    assert unfit_index(tmp_path) == ""


def test_a_cached_file_of_another_sha256_is_refused_with_the_file_to_remove(
    tmp_path: Path,
) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "c", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    blob = blobs / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to(blob)
    check_bytes(snapshot, "hf:a/b@1")
    blob.write_bytes(b"weight")
    os.utime(blob, ns=(1, 1))
    with pytest.raises(Refused, match=rf"hf:a/b@1.*model.safetensors has not the sha256.*{blob}"):
        check_bytes(snapshot, "hf:a/b@1")


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=2) | st.floats() | st.just([])
)


@settings(max_examples=150, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from([*GPT2, "vocab_size", "n_inner", "max_position_embeddings"]), VALUES
    ),
    left_out=st.sampled_from(["", *GPT2]),
)
def test_whatever_a_configuration_says_it_is_a_size_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, object], left_out: str
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    body = {**GPT2, "vocab_size": 300, **changes}
    body.pop(left_out, None)
    (folder / "config.json").write_text(json.dumps(body))
    for asked in (start_size, lambda path: hub_bounds(path, 0)):
        try:
            asked(str(folder))
        except UnusableStart as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("body", ["{", "[]", '{"layers": 1}', '{"width": "a"}', "null"])
def test_a_damaged_size_of_a_package_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "size.json").write_text(body)
    with pytest.raises(UnusableStart, match=r"size.json gives no size"):
        start_size(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("tokenizer.json", "{", "tokenizer.json is no tokenizer"),
        ("tokenizer.json", '{"version": "1.0"}', "tokenizer.json is no tokenizer"),
        ("tokenizer_config.json", "{", "is not JSON in UTF-8"),
        ("tokenizer_config.json", "[]", "is no JSON object"),
        ("generation_config.json", "3", "is no JSON object"),
        ("tokenizer_config.json", '{"eos_token": "<none>"}', "the tokenizer has no token <none>"),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, name: str, body: str, words: str) -> None:
    (tmp_path / "tokenizer.json").write_text(trained(["a text"], 300))
    (tmp_path / name).write_text(body)
    with pytest.raises(UnusableStart, match=words) as error:
        Tokens.of(tmp_path)
    assert "\n" not in str(error.value)
