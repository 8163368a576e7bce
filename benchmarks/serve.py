"""python -m benchmarks.serve [--json] [--seconds S]: tidemill serve beside `mlflow models serve` and LitServe, in one run.

The same package, the same questions, the same client, on loopback. The peers load the package through its own
recipe, in an environment of their own (.tidemill/peers-serve), MLflow by a model from code, without pickle.
The networks have the recipes' default sizes and were trained for a moment: how fast they answer does not depend on that.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from tasks.places import environment, state
from tests.conftest import HERE, make_clone

CLIENTS = 16
PEERS = ("litserve", "mlflow>=3.17.2,<3.18", "onnxruntime", "pillow", "tokenizers", "pydantic>=2.14", "fastapi>=0.150,<0.151")
MAKE = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.filterwarnings("ignore")
from tasks import places; places.settle()
import making
making.MODELS.update(images={}, text_generation={"batch": 2, "steps": 2, "samples": 0, "vocabulary": 600})
from tasks import tracking
for name in ("images", "text_generation"):
    folder = places.state("made", f"{name}-1")
    making.package(name, 1, folder)
    tracking.move(name, "champion", making.register(name, folder, "key1"))
"""
MLFLOW = """
import json, os
from pathlib import Path
import mlflow
from mlflow.pyfunc import PythonModel

class Answers(PythonModel):
    def load_context(self, context):
        import recipes
        folder = Path(os.environ["PACKAGE"])
        told = json.loads((folder / "recipe.json").read_text())
        self.recipe = recipes.load(told["application"])(**told["fields"])
        self.session = self.recipe.open(folder)

    def predict(self, context, model_input, params=None):
        questions = [self.recipe.Input.model_validate(row) for row in model_input.to_dict("records")]
        return [answer.model_dump(mode="json") for answer in self.recipe.predict(self.session, questions)]

mlflow.models.set_model(Answers())
"""
LITSERVE = """
import json, os, sys
from pathlib import Path
import litserve

class Answers(litserve.LitAPI):
    def setup(self, device):
        import recipes
        folder = Path(os.environ["PACKAGE"])
        told = json.loads((folder / "recipe.json").read_text())
        self.recipe = recipes.load(told["application"])(**told["fields"])
        self.session = self.recipe.open(folder)

    def decode_request(self, request):
        return self.recipe.Input.model_validate(request)

    def batch(self, inputs):
        return inputs

    def predict(self, questions):
        return self.recipe.predict(self.session, questions)

    def unbatch(self, output):
        return output

    def encode_response(self, answer):
        return answer.model_dump(mode="json")

if __name__ == "__main__":
    litserve.LitServer(Answers(max_batch_size=32, batch_timeout=0.002), accelerator="cpu").run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
"""


def peers() -> Path:
    """The peers' own environment, made where there is none."""
    folder = state("peers-serve")
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS], check=True)
        (folder / ".ready").touch()
    return python


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A server's process with its children."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, wrap: bool, ready_s: float) -> None:
        self.process, self.address, self.wrap, self.ready_s = psutil.Process(process.pid), address, wrap, ready_s

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(sum(item.cpu_times()[:2]) for item in self.family())

    def mb(self) -> float:
        """Resident memory; what processes share is counted once (PSS)."""
        return sum(item.memory_full_info().pss for item in self.family()) / 1e6

    def body(self, question: dict[str, Any]) -> dict[str, Any]:
        return {"dataframe_records": [question]} if self.wrap else question


@contextlib.contextmanager
def started(command: list[str], address: str, wrap: bool, question: dict[str, Any], env: dict[str, str], cwd: Path, log: Path) -> Iterator[Served]:
    began = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=file, stderr=file, start_new_session=True)
    found = Served(process, address, wrap, 0.0)
    try:
        asyncio.run(_answers(found, process, question, log))
        found.ready_s = time.perf_counter() - began
        yield found
    finally:
        family = found.family() if process.poll() is None else []
        for item in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                item.terminate()
        for item in psutil.wait_procs(family, timeout=10)[1]:
            item.kill()
        process.wait()


async def _answers(server: Served, process: subprocess.Popen[bytes], question: dict[str, Any], log: Path) -> None:
    """Wait until a question is answered."""
    until = time.monotonic() + 120
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.post(server.address, json=server.body(question)) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not answer: {log.read_text()[-2000:]}")
            await asyncio.sleep(0.05)


async def closed(server: Served, questions: list[dict[str, Any]], clients: int, seconds: float) -> tuple[float, list[float]]:
    """So many clients, each asking again when it was answered: answers a second, and each one's ms."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        at = number
        while time.perf_counter() < until:
            began = time.perf_counter()
            async with session.post(server.address, json=server.body(questions[at % len(questions)])) as answer:
                await answer.read()
                assert answer.status == 200, answer.status
            times.append((time.perf_counter() - began) * 1e3)
            at += clients

    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(number, session) for number in range(clients)))
    return len(times) / (time.perf_counter() - began), times


async def open_loop(server: Served, questions: list[dict[str, Any]], per_s: float, seconds: float) -> list[float]:
    """Questions at a steady rate with random gaps, whether or not those before were answered: each one's ms."""
    random, times, tasks = np.random.default_rng(1), [], []

    async def one(number: int, session: aiohttp.ClientSession) -> None:
        began = time.perf_counter()
        async with session.post(server.address, json=server.body(questions[number % len(questions)])) as answer:
            await answer.read()
        times.append((time.perf_counter() - began) * 1e3)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        at = began = time.perf_counter()
        number = 0
        while at < began + seconds:
            at += random.exponential(1 / per_s)
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number, session)))
            number += 1
        await asyncio.gather(*tasks)
    return times


def measured(server: Served, questions: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    asyncio.run(closed(server, questions, CLIENTS, 1.0))
    found = {"ready_s": server.ready_s}
    before = server.cpu_s()
    rate, times = asyncio.run(closed(server, questions, CLIENTS, seconds))
    found |= {"per_s": rate, "cpu_ms": 1e3 * (server.cpu_s() - before) / len(times)}
    before = server.cpu_s()
    _, times = asyncio.run(closed(server, questions, 1, seconds / 2))
    found |= {"alone_cpu_ms": 1e3 * (server.cpu_s() - before) / len(times), "alone_p50_ms": float(np.median(times))}
    times = asyncio.run(open_loop(server, questions, 0.8 * rate, seconds))
    found |= {"p50_ms": float(np.quantile(times, 0.5)), "p99_ms": float(np.quantile(times, 0.99)), "mb": server.mb()}
    return found


def side_by_side(folder: Path, seconds: float, python: Path) -> dict[str, dict[str, dict[str, float]]]:
    clone = make_clone(folder / "clone", git=False)
    for name in ("images", "text_generation"):      # the clone's small models are for tests
        shutil.copy(HERE / "conf" / "recipe" / f"{name}.yaml", clone.folder / "conf" / "recipe")
    env = {**clone.env, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(clone.folder), **{name: environment()[name] for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_MODEL_CATALOG_URI")}}
    subprocess.run([sys.executable, "-c", MAKE, str(HERE / "tests")], cwd=clone.folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "litserver.py").write_text(LITSERVE)
    (folder / "answers.py").write_text(MLFLOW)
    subprocess.run([str(python), "-c", "import mlflow; mlflow.pyfunc.save_model('model', python_model='answers.py')"], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("images", "text_generation"):
        package = clone.folder / ".tidemill" / "made" / f"{name}-1"
        questions = [row["question"] for row in json.loads((package / "golden.json").read_text())]
        questions = questions[:3] if name == "images" else [{"prompt": "Jeder Mensch hat", "max_tokens": 16, "seed": seed} for seed in range(8)]
        peer_env = {**env, "PACKAGE": str(package)}
        for label in ("ours", "ours, one at a time", "mlflow", "litserve"):
            where = port()
            clone.edit(f"recipe/{name}.yaml", lambda body, label=label: body.setdefault("serve", {}).update(batch=1 if label != "ours" else 32))
            command, path = {
                "mlflow": ([str(python), "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "--env-manager", "local", "--host", "127.0.0.1", "--port", str(where)], "/invocations"),
                "litserve": ([str(python), str(folder / "litserver.py"), str(where)], "/predict"),
            }.get(label, ([sys.executable, "-m", "tasks.serve", name, "--port", str(where)], f"/v1/{name}/predict"))
            with started(command, f"http://127.0.0.1:{where}{path}", label == "mlflow", questions[0], peer_env, clone.folder, folder / f"{label}.log") as server:
                found.setdefault(name, {})[label] = measured(server, questions, seconds)
            print(f"{name}, {label}: {({key: round(value, 2) for key, value in found[name][label].items()})}", file=sys.stderr)
    return found


def rows(found: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    told = []
    for name, servers in found.items():
        ours = servers["ours"]
        for peer, cpu_goal in (("mlflow", 1 / 3), ("litserve", 1 / 2)):
            theirs = servers[peer]
            for figure, words, goal in (("cpu_ms", "CPU of a request, 16 clients, ms", cpu_goal), ("alone_cpu_ms", "CPU of a request, one client, ms", cpu_goal), ("mb", "memory, MB", 1 / 2)):
                told.append({"name": f"{name}: {words}, beside {peer}", "ours": round(ours[figure], 2), "peer": round(theirs[figure], 2), "ratio": round(ours[figure] / theirs[figure], 2), "goal": f"<= {goal:.2f}"})
            told.append({"name": f"{name}: answers a second, beside {peer}", "ours": round(ours["per_s"], 1), "peer": round(theirs["per_s"], 1), "ratio": round(ours["per_s"] / theirs["per_s"], 2), "goal": None})
        alone = servers["ours, one at a time"]["per_s"]
        told += [
            {"name": f"{name}: answers a second, beside one at a time", "ours": round(ours["per_s"], 1), "peer": round(alone, 1), "ratio": round(ours["per_s"] / alone, 2), "goal": ">= 2"},
            {"name": f"{name}: p99 beside p50 at 80 % load, ms", "ours": round(ours["p99_ms"], 2), "peer": round(ours["p50_ms"], 2), "ratio": round(ours["p99_ms"] / ours["p50_ms"], 2), "goal": "<= 4"},
            {"name": f"{name}: start to the first answer, s", "ours": round(ours["ready_s"], 2), "peer": round(min(servers[peer]["ready_s"] for peer in ("mlflow", "litserve")), 2), "ratio": None, "goal": "< 3"},
        ]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    given = parser.parse_args()
    python = peers()
    with tempfile.TemporaryDirectory() as folder:
        found = side_by_side(Path(folder), given.seconds, python)
    for row in rows(found):
        print(json.dumps(row) if given.json else f"{row['name']}: {row['ours']} to {row['peer']}, ratio {row['ratio']}" + (f" (goal {row['goal']})" if row["goal"] else ""))


if __name__ == "__main__":
    main()
