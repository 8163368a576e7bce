"""The server's application in this process, over one opened package: for very many requests."""

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.testclient import TestClient

from tasks.serve.app import make
from tasks.serve.loaded_model import LoadedModel
from tasks.serve.version_follower import Pair, ServedApplication, VersionFollower
from tidemill import contract
from tidemill.engines.config.schema import Serve, Serving


class Resident(VersionFollower):
    """Follows no registry: what it serves was given to it."""

    def look(self) -> None:
        self.looked = True


def model_of(application: str, session: Any) -> LoadedModel:
    recipe = contract.application(application)
    return LoadedModel(
        application=application,
        version="1",
        digest="d" * 64,
        snapshot="s" * 64,
        card="",
        recipe=recipe,
        session=session,
        one=TypeAdapter(recipe.Input),
        many=TypeAdapter(list[Any]),
        example=(recipe.Input.model_construct(), recipe.Output.model_construct()),
    )


def in_process(application: str, session: Any, settings: Serve | None = None) -> TestClient:
    """A client of a server that answers by this session; to be used as a context."""
    follower = Resident((application,), 3600)
    pair = Pair(champion=model_of(application, session))
    follower.served[application] = ServedApplication(application, settings or Serve(), pair)
    server = make((application,), Serving(), follower)
    return TestClient(server.asgi, "http://127.0.0.1", raise_server_exceptions=False)


def posted(client: TestClient, path: str, body: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer; of a stream its pieces."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=sent, headers={"Content-Type": "application/json"})
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = answer.text.removesuffix("\n\n").split("\n\n")
        assert all(event.startswith("data: ") for event in events), events
        assert events.pop() == "data: [DONE]"
        return answer.status_code, [json.loads(event[6:]) for event in events]
    return answer.status_code, answer.json()


def with_template(package: Path, to: Path, template: str, **config: Any) -> Path:
    """A copy of a package that has a chat template."""
    shutil.copytree(package, to)
    written = {"chat_template": template, "eos_token": "<|endoftext|>", **config}
    (to / "tokenizer_config.json").write_text(json.dumps(written))
    return to
