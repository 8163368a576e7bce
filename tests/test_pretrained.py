"""Weights of a hub: one that speaks its protocol on loopback, the cache, and what is refused."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recipes.text_generation.tokens import Tokens, trained
from tests.support import causal_models
from tests.support.texts import TEXTS
from tidemill.kit import pretrained
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import tree_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "tide/tiny-llama"


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub: the files of a revision, and each of them."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path in (f"/api/models/{MODEL}/revision/{name}" for name in ("v1", COMMIT)):
            files = [{"rfilename": name} for name in self.files]
            self.give(json.dumps({"id": MODEL, "sha": COMMIT, "siblings": files}).encode())
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": name}
                for name, body in self.files.items()
            ]
            self.give(json.dumps(tree).encode())
        elif path.startswith(f"/{MODEL}/resolve/") and path.rpartition("/")[2] in self.files:
            self.give(self.files[path.rpartition("/")[2]])
        else:
            known = path.startswith((f"/api/models/{MODEL}/", f"/{MODEL}/"))
            self.give(b"", 404, "RevisionNotFound" if known else "RepoNotFound")

    def give(self, body: bytes, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        headers = {
            "Content-Length": str(len(body)),
            "ETag": f'"{hashlib.sha1(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            **({"X-Error-Code": error} if error else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub with one model, and a cache of its own."""
    made = tmp_path / "model"
    causal_models.folder("llama", made, Tokens(trained(TEXTS, 400)))
    Hub.files = {path.name: path.read_bytes() for path in made.iterdir()}
    Hub.files["pytorch_model.bin"] = Hub.files["modeling.py"] = b"what could run"
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield address
    server.shutdown()
    server.server_close()


def test_a_revision_is_fetched_once_without_what_could_run(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes.text_generation.recipe import TextGeneration

    start = f"hf:{MODEL}@v1"
    folder = pretrained.folder(start)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "modeling.py"}
    assert (folder / "model.safetensors").read_bytes() == Hub.files["model.safetensors"]
    recipe = TextGeneration(start=start)
    assert recipe.trains_in_place() and recipe.bounds() == (64, 400)
    asked = sum("safetensors" in path for path in Hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pretrained.folder(f"hf:{MODEL}@{COMMIT}") == folder
    assert sum("safetensors" in path for path in Hub.asked) == asked
    assert tree_digest(folder) == tree_digest(pretrained.folder(start))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("hf:tiny@v1", "names no model; say hf:ORG/NAME@REVISION"),
        (f"hf:{MODEL}", f"names no revision.*say hf:{MODEL}@REVISION"),
        (f"hf:{MODEL}@", "names no revision"),
        (f"hf:{MODEL}@v9", "the model has no revision v9"),
        ("hf:tide/none@v1", "the hub has no model tide/none"),
        ("hf:../..@v1", "the hub has no model|names no model"),
    ],
)
def test_what_a_hub_has_not_is_refused_in_one_line(hub: str, start: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as error:
        pretrained.folder(start)
    assert "\n" not in str(error.value)


def test_offline_says_what_to_do(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Refused, match=r"is not in this machine's cache.*or name a folder"):
        pretrained.folder(f"hf:{MODEL}@v1")
    assert not Hub.asked


def test_a_hub_that_is_silent_is_a_fault_or_refused_in_one_line(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises((Fault, Refused), match=f"hf:{MODEL}@v1") as error:
        pretrained.folder(f"hf:{MODEL}@v1")
    assert "\n" not in str(error.value)


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert pretrained.folder(str(tmp_path)) == tmp_path
