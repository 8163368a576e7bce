"""OpenAI's routes under odd requests and odd models, in this process: no server, many bodies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from recipes.text_generation.session import TextPredictor
from tasks.serve.invocations import records
from tasks.serve.problem_json import Refusal
from tests.support.in_process import in_process, posted, with_template
from tests.support.serving import Project
from tidemill.engines.config.schema import Serve
from tidemill.families.generator import Past

NAME = "text_generation"
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TEXTS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = {"role": "user", "content": "hé"}


@pytest.fixture(scope="module")
def package(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = project.folder / ".tidemill" / "made" / f"{NAME}-1"
    return with_template(made, tmp_path_factory.mktemp("odd") / "package", TEMPLATE)


@pytest.fixture(scope="module")
def client(package: Path) -> Iterator[TestClient]:
    with in_process(NAME, TextPredictor(package)) as found:
        yield found


# What is asked ---------------------------------------------------------------------------

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, -(2**63), 10**400]),
    st.floats(-3, 6),
    st.sampled_from(["", "\x00", "é\u2028", "\u0085", "<|endoftext|>", "\U0001f600", "a" * 300]),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": VALUES}
    ),
    max_size=3,
)
FIELDS = {
    "max_tokens": st.integers(-1, 5) | VALUES,
    "temperature": st.floats(0, 5) | VALUES,
    "top_p": st.floats(0, 1) | VALUES,
    "top_k": st.integers(0, 5) | VALUES,
    "repetition_penalty": st.floats(1, 10) | VALUES,
    "presence_penalty": st.floats(-2, 2) | VALUES,
    "frequency_penalty": st.floats(-2, 2) | VALUES,
    "n": st.integers(0, 3) | VALUES,
    "stop": st.lists(st.text(min_size=1, max_size=2), max_size=2) | VALUES,
    "seed": st.integers() | VALUES,
    "stream": st.booleans() | VALUES,
    "stream_options": st.just({"include_usage": True}) | VALUES,
    "logprobs": st.integers(0, 3) | st.booleans() | VALUES,
    "user": VALUES,
    "logit_bias": VALUES,
}
OF_TEXTS = {
    "prompt": st.text(max_size=8) | st.lists(st.integers(0, 300), max_size=4) | VALUES,
    "echo": st.booleans() | VALUES,
    "best_of": VALUES,
    "suffix": VALUES,
}
OF_CHAT = {
    "top_logprobs": st.integers(0, 3) | VALUES,
    "max_completion_tokens": st.integers(0, 5) | VALUES,
    "response_format": VALUES,
    "tools": VALUES,
}


def asked(more: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = {"model": st.just(NAME) | st.sampled_from([f"{NAME}@1", f"{NAME}@", "", "@"])}
    if more is OF_CHAT:
        required["messages"] = MESSAGES | VALUES
    return st.fixed_dictionaries(required, optional={**FIELDS, **more})


REQUESTS = st.tuples(st.just(TEXTS), asked(OF_TEXTS)) | st.tuples(st.just(CHAT), asked(OF_CHAT))


@given(request=REQUESTS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_body_makes_the_server_fail(
    client: TestClient, request: tuple[str, dict[str, Any]]
) -> None:
    path, body = request
    status, answer = posted(client, path, body)
    assert status in (200, 400, 404), answer
    if status != 200:
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        words = answer["error"]["message"]
        assert words and "\n" not in words and len(words) < 1000


def test_of_a_long_list_the_first_problem_alone_is_described(client: TestClient) -> None:
    """All problems of a list of half a million are a gigabyte and seconds of the event loop."""
    for path, field, words in (
        (TEXTS, '"prompt": [NULLS]', "prompt.texts.0: should be a valid string"),
        (CHAT, '"messages": [{"role": "user", "content": [NULLS]}]', "content.list.0"),
        (CHAT, '"messages": [NULLS]', "messages.0"),
    ):
        many = ",".join(["null"] * 100_000)
        body = f'{{"model": "{NAME}", {field}}}'.replace("NULLS", many).encode()
        status, answer = posted(client, path, body)
        assert status == 400 and words in answer["error"]["message"]
        assert ";" not in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "more", "param", "words"),
    [
        (TEXTS, {"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
        (CHAT, {"messages": [USER], "top_logprobs": 2}, "top_logprobs", "without logprobs"),
        (TEXTS, {"prompt": [10**300]}, "prompt.tokens.0", "less than"),
        (TEXTS, {"best_of": True}, "best_of", "integer"),
        (TEXTS, {"prompt": {}}, "prompt", "a text, tokens, or a list of either"),
    ],
)
def test_a_field_that_would_not_be_heeded_is_refused(
    client: TestClient, path: str, more: dict[str, Any], param: str, words: str
) -> None:
    status, answer = posted(client, path, {"model": NAME, **more})
    assert status == 400 and answer["error"]["param"] == param
    assert words in answer["error"]["message"] and len(answer["error"]["message"]) < 200


def test_every_refusal_of_openais_routes_has_its_form(client: TestClient) -> None:
    """Its client shows `error.message`, and of a problem of RFC 9457 nothing."""
    json_body = {"Content-Type": "application/json"}
    refused = [
        client.get(TEXTS),
        client.get(CHAT),
        client.post("/v1/models"),
        client.get("/v1/models/none"),
        client.post(TEXTS, content=b"{}", headers={"Content-Type": "text/plain"}),
        client.post(TEXTS, content=b"{}", headers={**json_body, "Host": "evil.example"}),
        client.post(CHAT, content=b"x" * 2_000_000, headers=json_body),
    ]
    assert [one.status_code for one in refused] == [404, 405, 405, 404, 415, 421, 413]
    for one in refused:
        assert one.headers["content-type"] == "application/json", one.text
        assert one.json()["error"]["message"]


def test_tokens_are_asked_for_without_a_token_in_openais_form(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_TOKENS", "a-token-of-24-characters")
    with in_process(NAME, TextPredictor(package)) as guarded:
        status, answer = posted(guarded, TEXTS, {"model": NAME})
    assert status == 401 and answer["error"]["type"] == "authentication_error"


# What is answered ------------------------------------------------------------------------


def test_pieces_are_ascii_since_some_clients_break_lines_at_u_2028(client: TestClient) -> None:
    body = {"model": NAME, "prompt": "a\u2028b\u0085c", "echo": True, "max_tokens": 1}
    sent = {**body, "stream": True}
    lines = list(client.post(TEXTS, json=sent).iter_lines())  # which splits by Unicode
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert events[0]["choices"][0]["text"] == "a\u2028b\u0085c"


def test_each_text_of_a_stream_begins_with_its_prompts_log_probabilities(
    package: Path,
) -> None:
    """Also where there is no room to read all prompts at once."""
    body = {
        "model": NAME,
        "prompt": [f"a{number}" for number in range(12)],
        "max_tokens": 8,
        "echo": True,
        "logprobs": 1,
        "seed": 1,
    }
    with in_process(NAME, TextPredictor(package), Serve(batch=2)) as narrow:
        whole = posted(narrow, TEXTS, body)[1]["choices"]
        pieces = posted(narrow, TEXTS, {**body, "stream": True})[1]
    for choice in whole:
        mine = [
            one for piece in pieces for one in piece["choices"] if one["index"] == choice["index"]
        ]
        assert "".join(one["text"] for one in mine) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [value for one in mine for value in one["logprobs"][name]] == values, name


@given(
    body=st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(["a", "é", "すべ", "\r\n", "\U0001f600"])
            | st.lists(st.integers(0, 256), min_size=1, max_size=4),
            "seed": st.integers(0, 10_000),
            "temperature": st.sampled_from([0, 0.5, 1, 5]),
            "logprobs": st.sampled_from([None, 0, 2]),
            "echo": st.booleans(),
            "stop": st.lists(st.text("aé\ufffd\x1e.", min_size=1, max_size=2), max_size=2),
        }
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_stream_adds_up_to_the_whole_answer(client: TestClient, body: dict[str, Any]) -> None:
    body = {"model": NAME, "max_tokens": 24, **body}
    whole = posted(client, TEXTS, body)[1]
    more = {"stream": True, "stream_options": {"include_usage": True}}
    pieces = posted(client, TEXTS, {**body, **more})[1]
    choices = [choice for piece in pieces for choice in piece["choices"]]
    [expected] = whole["choices"]
    assert "".join(choice["text"] for choice in choices) == expected["text"]
    assert choices[-1]["finish_reason"] == expected["finish_reason"]
    assert pieces[-1]["usage"] == whole["usage"]
    for name, values in (expected["logprobs"] or {}).items():
        assert [value for choice in choices for value in choice["logprobs"][name]] == values, name


def test_the_token_that_was_taken_is_among_those_shown(client: TestClient) -> None:
    body = {"model": NAME, "prompt": "ab", "max_tokens": 4, "logprobs": 0, "echo": True}
    shown = posted(client, TEXTS, body)[1]["choices"][0]["logprobs"]
    assert shown["top_logprobs"][0] is None
    rest = zip(shown["tokens"], shown["token_logprobs"], shown["top_logprobs"], strict=True)
    for token, logprob, likeliest in list(rest)[1:]:
        assert likeliest == {token: logprob}


def test_the_bytes_of_tokens_add_up_to_the_answer(client: TestClient) -> None:
    """A token may be a part of a character, and its name is then spelled in other letters."""
    body = {
        "model": NAME,
        "messages": [USER],
        "max_tokens": 20,
        "logprobs": True,
        "seed": 3,
        "temperature": 3,
    }
    [choice] = posted(client, CHAT, body)[1]["choices"]
    entries = choice["logprobs"]["content"]
    assert any(entry["token"].encode() != bytes(entry["bytes"]) for entry in entries)
    joined = bytes(byte for entry in entries for byte in entry["bytes"])
    assert joined.decode("utf-8", "replace") == choice["message"]["content"]


# Models that fail ------------------------------------------------------------------------


class Failing(TextPredictor):
    """A predictor whose network fails for texts that begin with a token."""

    first = 65
    value = np.nan
    panics = False

    def forward(
        self, ids: np.ndarray, begins: np.ndarray, past: Past | None
    ) -> tuple[np.ndarray, Past]:
        logits, now = super().forward(ids, begins, past)
        bad = [row for row, tokens in enumerate(ids) if self.first in tokens]
        if bad and self.panics:
            raise RustPanic("a library in Rust panicked")
        logits = logits.copy()
        logits[bad] = self.value
        return logits, now


class RustPanic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


def test_a_network_that_gives_nan_fails_that_answer_alone(package: Path) -> None:
    with in_process(NAME, Failing(package)) as odd:
        both = {"model": NAME, "prompt": [[0, 65], [0, 66]], "max_tokens": 3, "logprobs": 1}
        status, answer = posted(odd, TEXTS, both)
        assert status == 500 and answer["error"]["type"] == "server_error"
        status, answer = posted(odd, TEXTS, {**both, "prompt": [[0, 66]]})
        assert status == 200 and answer["usage"]["completion_tokens"] > 0


def test_a_panic_ends_the_answer_and_not_the_thread(package: Path) -> None:
    session = Failing(package)
    session.panics = True
    with in_process(NAME, session, Serve(deadline_s=5)) as odd:
        for _ in range(2):
            assert posted(odd, TEXTS, {"model": NAME, "prompt": [0, 65]})[0] == 500
        assert posted(odd, TEXTS, {"model": NAME, "prompt": [0, 66]})[0] == 200


class Masked(TextPredictor):
    """A predictor of whose vocabulary most tokens cannot be."""

    def forward(
        self, ids: np.ndarray, begins: np.ndarray, past: Past | None
    ) -> tuple[np.ndarray, Past]:
        logits, now = super().forward(ids, begins, past)
        logits = logits.copy()
        logits[..., 100:] = -np.inf
        return logits, now


def test_a_token_that_cannot_be_has_a_finite_log_probability(package: Path) -> None:
    body = {"model": NAME, "prompt": [0, 200], "max_tokens": 2, "logprobs": 1, "echo": True}
    with in_process(NAME, Masked(package)) as odd:
        status, answer = posted(odd, TEXTS, body)
    assert status == 200
    assert answer["choices"][0]["logprobs"]["token_logprobs"][1] == -9999


def test_no_end_of_an_answer_is_shown(package: Path, tmp_path: Path) -> None:
    """Chat models have several: one of texts, and one of turns."""
    more = with_template(package, tmp_path / "ends", TEMPLATE)
    (more / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 33, 34]}))
    session = TextPredictor(more)
    assert session.spelled([65, 33, 66, 34, 0]) == session.spelled([65, 66])


def test_mlflows_form_names_the_first_problem_of_a_list_alone() -> None:
    many = b",".join([b"1"] * 100_000)
    for body, words in (
        (b'{"instances": [%b]}', "instances.0: should be an object"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [%b]}}', "dataframe_split.data.0"),
    ):
        with pytest.raises(Refusal, match=words) as refusal:
            records(body % many)
        assert len(refusal.value.fields or []) == 1
