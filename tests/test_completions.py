"""OpenAI's routes: its own client against the real server, and texts written side by side."""

import asyncio
import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from tasks.serve.writing import TextWriter, WritingProgress
from tests.support import making
from tests.support.serving import Project, Running, serving, until
from tidemill import contract
from tidemill.engines.config.schema import Serve
from tidemill.families.generator import Draft, SamplingOptions

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
STRICT = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('a user speaks first') }}{% endif %}"
    + TEMPLATE
)
NAME = "text_generation"


@pytest.fixture(scope="module")
def running(project: Project) -> Iterator[Running]:
    """A server whose champion has a chat template; the version before it has none."""
    made = project.folder / ".tidemill" / "made"
    third = made / f"{NAME}-chat"
    shutil.rmtree(third, ignore_errors=True)
    shutil.copytree(made / f"{NAME}-1", third)
    (third / "model.sig").unlink()
    config = {"chat_template": STRICT, "eos_token": "<|endoftext|>"}
    (third / "tokenizer_config.json").write_text(json.dumps(config))
    with making.inside(project.folder):
        number = making.register(NAME, third, "chat")
    with serving(project, NAME, "languages") as found:
        project.champion(NAME, number)
        until(lambda: found.ask("GET", f"/v1/{NAME}")[2]["version"] == number, 20)
        yield found
    project.champion(NAME, "1")


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{running.address}/v1", api_key="none", max_retries=0, timeout=60
    ) as found:
        yield found


def test_the_models_are_those_that_write_text(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert model.id == NAME and model.owned_by == "tidemill"
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="languages does not write text"):
        client.models.retrieve("languages")


def test_a_completion_is_what_our_own_route_answers(
    running: Running, client: openai.OpenAI
) -> None:
    question = {"prompt": "Everyone has the right", "max_tokens": 12, "temperature": 0}
    ours = running.predict(NAME, question)[2]
    theirs = client.completions.create(model=NAME, **question)  # type: ignore[call-overload]
    [choice] = theirs.choices
    assert choice.text == ours["text"]
    assert choice.finish_reason == {"end": "stop"}.get(ours["finish"], ours["finish"])
    assert theirs.usage.completion_tokens == ours["tokens"]
    assert theirs.usage.total_tokens == theirs.usage.prompt_tokens + ours["tokens"]


def test_a_stream_has_the_same_text_in_pieces_and_the_counts_at_its_end(
    client: openai.OpenAI,
) -> None:
    asked: dict[str, Any] = {
        "model": NAME,
        "prompt": ["すべて人は", "Jeder hat"],
        "max_tokens": 20,
        "seed": 3,
        "n": 2,
        "echo": True,
    }
    whole = client.completions.create(**asked)
    pieces = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    texts = [""] * 4
    ends: list[str | None] = [None] * 4
    for piece in pieces:
        for choice in piece.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert texts[0].startswith("すべて人は") and texts[2].startswith("Jeder hat")
    assert texts[0] != texts[1]  # each of `n` has a seed of its own
    assert ends == [choice.finish_reason for choice in whole.choices]
    # Four ends and the counts stand alone; how many tokens come together is a matter of speed.
    assert pieces[-1].usage == whole.usage and len(pieces) > 6


def test_log_probabilities_are_those_of_reading_the_text(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": NAME, "logprobs": 2, "echo": True, "temperature": 0}
    made = client.completions.create(**asked, prompt="Everyone", max_tokens=6).choices[0]
    shown = made.logprobs
    assert len({len(part) for part in (shown.tokens, shown.token_logprobs, shown.text_offset)}) == 1
    # The beginning that stands before every text is a token too.
    read = client.completions.create(**asked, prompt=made.text, max_tokens=0).choices[0]
    assert read.text == made.text and read.finish_reason == "length"
    assert read.logprobs.token_logprobs[0] is None
    assert read.logprobs.token_logprobs[1:4] == pytest.approx(shown.token_logprobs[1:4], abs=1e-3)
    drawn = shown.token_logprobs[-6:]
    best = [max(one.values()) for one in shown.top_logprobs[-6:]]
    assert drawn == pytest.approx(best)  # temperature 0 takes the likeliest
    for token, offset in zip(read.logprobs.tokens[1:], read.logprobs.text_offset[1:], strict=True):
        assert read.text[offset:].startswith(token) or not token.isascii()


def test_tokens_may_be_asked_for_as_harnesses_do_it(client: openai.OpenAI) -> None:
    """A prompt of tokens is read as it stands; with echo its own log-probabilities come back."""
    both = client.completions.create(
        model=NAME,
        prompt=[[0, 40, 41, 42], [0, 50, 51]],
        max_tokens=1,
        logprobs=1,
        echo=True,
        temperature=0,
        seed=1234,
    )
    lengths = [len(choice.logprobs.token_logprobs) for choice in both.choices]
    assert lengths == [5, 4] and both.usage.prompt_tokens == 7
    with pytest.raises(openai.BadRequestError, match="token 99999 is none of the model's"):
        client.completions.create(model=NAME, prompt=[99_999])


def test_a_stop_ends_a_text_before_it_and_is_never_shown_in_part(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": NAME, "prompt": "Everyone has", "seed": 5, "max_tokens": 30}
    free = client.completions.create(**asked).choices[0].text
    stop = free[9:13]
    pieces = list(client.completions.create(**asked, stop=[stop], stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == free[: free.index(stop)]
    assert pieces[-1].choices[0].finish_reason == "stop"


def test_a_conversation_is_answered_whole_and_in_pieces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": NAME,
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day"},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
        ],
        "max_completion_tokens": 10,
        "seed": 1,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**asked)
    [choice] = whole.choices
    assert choice.message.role == "assistant" and whole.usage.completion_tokens <= 10
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    pieces = list(client.chat.completions.create(**asked, stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == choice.message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == choice.finish_reason
    shown = [entry for piece in pieces for entry in (piece.choices[0].logprobs or _None()).content]
    assert [entry.token for entry in shown] == [entry.token for entry in choice.logprobs.content]
    prompt = "user: Hello\nassistant: Good day\nuser: And?\nassistant:"
    same = client.completions.create(model=NAME, prompt=prompt, max_tokens=1)
    assert same.usage.prompt_tokens == whole.usage.prompt_tokens + 1  # a text's beginning


class _None:
    content: list[Any] = []


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("completions", {"prompt": "a"}, 400, "model: this field is required"),
        ("completions", {"model": "gpt"}, 404, "no model of that name"),
        ("completions", {"model": "languages"}, 404, "does not write text"),
        ("completions", {"model": f"{NAME}@99"}, 404, "not loaded here"),
        ("completions", {"model": NAME, "max_tokens": 65}, 400, "context has 64 tokens"),
        ("completions", {"model": NAME, "temperature": -1}, 400, "temperature"),
        ("completions", {"model": NAME, "suffix": "x"}, 400, "suffix"),
        ("completions", {"model": NAME, "logit_bias": {"1": 2}}, 400, "logit_bias"),
        ("completions", {"model": NAME, "n": 16, "prompt": ["a"] * 7}, 400, "112 answers"),
        ("completions", {"model": NAME, "prompt": []}, 400, "prompt"),
        ("chat/completions", {"model": NAME, "messages": []}, 400, "messages"),
        (
            "chat/completions",
            {"model": f"{NAME}@1", "messages": [{"role": "user", "content": "a"}]},
            400,
            "has no chat template: it continues texts; ask it by POST /v1/completions",
        ),
        (
            "chat/completions",
            {"model": NAME, "messages": [{"role": "system", "content": "a"}]},
            400,
            "a user speaks first",
        ),
        (
            "chat/completions",
            {"model": NAME, "messages": [{"role": "user", "content": "a <|endoftext|> b"}]},
            400,
            "message 0 spells the special token <|endoftext|>",
        ),
        (
            "chat/completions",
            {"model": NAME, "messages": [{"role": "user", "content": "x " * 200}]},
            400,
            "context has 64 tokens",
        ),
        (
            "chat/completions",
            {"model": NAME, "messages": [{"role": "user", "content": "a"}], "tools": []},
            400,
            "tools: no such field",
        ),
    ],
)
def test_what_cannot_be_done_is_an_error_of_openais_form(
    running: Running, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    code, _, told = running.ask("POST", f"/v1/{path}", body)
    assert code == status and set(told) == {"error"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert words in told["error"]["message"] and "\n" not in told["error"]["message"]


def test_bodies_that_are_none_are_refused(running: Running) -> None:
    for body in (b"{", b"[]", b'{"model": "a", "model": "b"}', b"\xff", b'{"temperature": NaN}'):
        code, _, told = running.ask("POST", "/v1/completions", body)
        assert code == 400 and told["error"]["type"] == "invalid_request_error", body


def measure(running: Running, name: str) -> float:
    lines = running.ask("GET", "/metrics")[2].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_questions_join_those_that_are_being_written(running: Running) -> None:
    """Sixteen answers side by side take fewer steps than one after the other."""
    steps = "tidemill_writing_step_count"
    before = measure(running, steps)
    asked = {"model": NAME, "prompt": "Jeder", "max_tokens": 40, "top_k": 40}

    def ask(seed: int) -> dict[str, Any]:
        return running.ask("POST", "/v1/completions", {**asked, "seed": seed})[2]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    written = sum(answer["usage"]["completion_tokens"] for answer in answers)
    assert measure(running, steps) - before < 0.6 * written
    alone = [ask(seed)["choices"][0]["text"] for seed in range(4)]
    assert alone == [answer["choices"][0]["text"] for answer in answers[:4]]


def test_whoever_reads_slowly_sees_the_end_of_every_text(project: Project) -> None:
    """The thread ends all of them while the reader is busy with the first piece."""
    session = contract.application(NAME).open(project.folder / ".tidemill" / "made" / f"{NAME}-1")
    model: Any = SimpleNamespace(session=session, version="1")
    drafts = [
        Draft(session.prompt("Jeder"), SamplingOptions(max_tokens=20, seed=seed))
        for seed in range(4)
    ]
    writer = TextWriter(NAME, Serve())

    async def read() -> list[WritingProgress]:
        pieces = []
        async for now in writer.write(model, drafts, lambda: False):
            pieces.append(now)
            await asyncio.sleep(1)
        return pieces[-1]

    last = asyncio.run(read())
    writer.close()
    assert all(one.finish for one in last)
    assert [one.text for one in last] == [draft.text for draft in drafts]


def test_a_text_that_nobody_reads_any_more_is_not_written_on(running: Running) -> None:
    body = json.dumps(
        {"model": NAME, "prompt": ["a"] * 6, "n": 16, "max_tokens": 60, "stream": True}
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    tokens = "tidemill_writing_step_sum"
    before = measure(running, tokens)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as gone:
        gone.sendall(head.encode() + body)
        assert b"text/event-stream" in gone.recv(2000)
    until(lambda: measure(running, "tidemill_writing{") == 0, 20)
    written = measure(running, tokens) - before
    time.sleep(0.5)
    assert measure(running, tokens) - before == written < 3000  # of 5,760
