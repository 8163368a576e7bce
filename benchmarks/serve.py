"""python -m benchmarks.serve [--json] [--seconds S].

Tidemill serve beside `mlflow models serve` and LitServe, in one run of six minutes.

The same package, the same questions, the same client (benchmarks/load.py, a process of its own) on
loopback, so on the same processors. The peers load the package through its own recipe, in an
environment of their own (.tidemill/peers-serve), MLflow by a model from code, without pickle. The
networks have the recipes' default sizes and were trained for a moment: how fast they answer does
not depend on that.
"""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.rows import Row, show
from tests.conftest import HERE, make_clone
from tidemill.runtime.paths import environment, state

CLIENTS, MANY = 16, 64
PARTS = 7  # open loops whose median is told
OVERLOAD_S, AFTER_S = 30.0, 8.0
PEERS = (
    "litserve",
    "mlflow>=3.17.2,<3.18",
    "onnxruntime",
    "pillow",
    "tokenizers",
    "pydantic>=2.14",
    "fastapi>=0.150,<0.151",
)
MAKE = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.filterwarnings("ignore")
from tidemill.runtime import paths; paths.settle()
from tests.support import making
making.tiny("images").FIELDS = {}
making.tiny("text_generation").FIELDS = {"batch": 2, "steps": 2, "samples": 0, "vocabulary": 600}
for name in ("images", "text_generation"):
    folder = paths.state("made", f"{name}-1")
    making.package(name, 1, folder)
    making.make_live(name, making.register(name, folder, "key1"))
"""
MLFLOW = """
import json, os
from pathlib import Path
import mlflow
from mlflow.pyfunc import PythonModel

class Answers(PythonModel):
    def load_context(self, context):
        from tidemill import contract
        folder = Path(os.environ["PACKAGE"])
        told = json.loads((folder / "recipe.json").read_text())
        self.application = contract.application(told["application"])
        self.predictor = self.application.open(folder)

    def predict(self, context, model_input, params=None):
        rows = model_input.to_dict("records")
        questions = [self.application.Input.model_validate(row) for row in rows]
        return [answer.model_dump(mode="json") for answer in self.predictor.predict(questions)]

mlflow.models.set_model(Answers())
"""
LITSERVE = """
import json, os, sys
from pathlib import Path
import litserve

class Answers(litserve.LitAPI):
    def setup(self, device):
        from tidemill import contract
        folder = Path(os.environ["PACKAGE"])
        told = json.loads((folder / "recipe.json").read_text())
        self.application = contract.application(told["application"])
        self.predictor = self.application.open(folder)

    def decode_request(self, request):
        return self.application.Input.model_validate(request)

    def batch(self, inputs):
        return inputs

    def predict(self, questions):
        return self.predictor.predict(questions)

    def unbatch(self, output):
        return output

    def encode_response(self, answer):
        return answer.model_dump(mode="json")

if __name__ == "__main__":
    server = litserve.LitServer(Answers(max_batch_size=32, batch_timeout=0.002), accelerator="cpu")
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        generate_client_file=False,
        log_level="error",
    )
"""


def peers() -> Path:
    """The peers' own environment, made where there is none."""
    folder = state("peers-serve")
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
            check=True,
        )
        (folder / ".ready").touch()
    return python


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A server's process with its children."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process, self.address, self.ready_s = psutil.Process(process.pid), address, 0.0

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(sum(item.cpu_times()[:2]) for item in self.family())

    def mb(self) -> float:
        """Resident memory; what processes share is counted once (PSS)."""
        return sum(item.memory_full_info().pss for item in self.family()) / 1e6

    def own_mb(self) -> float:
        """What no other process shares (USS), so that others' starts and ends do not show in it."""
        return sum(item.memory_full_info().uss for item in self.family()) / 1e6


@contextlib.contextmanager
def started(
    command: list[str], address: str, question: bytes, env: dict[str, str], cwd: Path, log: Path
) -> Iterator[Served]:
    began = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdout=file, stderr=file, start_new_session=True
        )
    found = Served(process, address)
    try:
        while not _answers(address, question):
            if process.poll() is not None or time.perf_counter() > began + 120:
                raise RuntimeError(f"the server did not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
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


def _answers(address: str, question: bytes) -> bool:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, question, {"Content-Type": "application/json"}),
            timeout=30,
        ) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


Rows = (
    np.ndarray
)  # of each answer: when it was due, seconds from then, seconds from when it was sent, status


def asked(server: Served, questions: Path, seconds: float, *how: object) -> Rows:
    """What benchmarks.load saw, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.load",
            server.address,
            str(questions),
            "--seconds",
            str(seconds),
            *map(str, how),
        ],
        cwd=HERE,
        capture_output=True,
        check=True,
    )
    return np.array(json.loads(done.stdout)["rows"])


def good(rows: Rows) -> Rows:
    return rows[rows[:, 3] == 200]


def measured(server: Served, questions: Path, seconds: float, overload: bool) -> dict[str, float]:
    """Closed loops of 16 clients, of one and of 64; ten times as many as 16 were answered.

    And 80 % of what it answers when more is asked.
    """
    asked(server, questions, 1.0, "--clients", CLIENTS)
    found = {"ready_s": server.ready_s}
    for label, clients, long in (("", CLIENTS, seconds), ("alone_", 1, seconds / 2)):
        before = server.cpu_s()
        rows = asked(server, questions, long, "--clients", clients)
        assert len(good(rows)) == len(rows), np.unique(rows[:, 3])
        found |= {
            f"{label}per_s": len(rows) / long,
            f"{label}cpu_ms": 1e3 * (server.cpu_s() - before) / len(rows),
            f"{label}p50_ms": 1e3 * float(np.median(rows[:, 1])),
        }
    found["many_per_s"] = len(good(asked(server, questions, seconds, "--clients", MANY))) / seconds
    found["mb"] = server.mb()
    if overload:
        found |= overloaded(server, questions, 10 * found["per_s"])
        rate = 0.8 * min(found["per_s"], found["over_per_s"])
        after = asked(server, questions, AFTER_S, "--rate", rate)
        found |= usual(server, questions, rate, seconds)
        found["again_s"] = again(after, 2 * found["p99_ms"] / 1e3)
    return found


def overloaded(server: Served, questions: Path, rate: float) -> dict[str, float]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.load",
            server.address,
            str(questions),
            "--seconds",
            str(OVERLOAD_S),
            "--rate",
            str(rate),
        ],
        cwd=HERE,
        stdout=subprocess.PIPE,
    )
    time.sleep(OVERLOAD_S / 3)
    early = server.own_mb()
    time.sleep(OVERLOAD_S / 2)
    late = server.own_mb()
    assert process.stdout is not None
    rows = np.array(json.loads(process.stdout.read())["rows"])
    process.wait()
    taken = good(rows)
    # From when it was sent: the client has 256 connections, and what found none of them free was
    # not asked of the server yet.
    return {
        "over_p99_ms": 1e3 * float(np.quantile(taken[:, 2], 0.99)),
        "over_per_s": len(taken) / OVERLOAD_S,
        "over_asked_per_s": len(rows) / OVERLOAD_S,
        "over_lost": float((rows[:, 3] == 0).sum()),
        "drift_mb": late - early,
    }


def usual(server: Served, questions: Path, rate: float, seconds: float) -> dict[str, float]:
    """The median of several open loops: what else this machine does comes and goes."""
    parts = [asked(server, questions, seconds / 2, "--rate", rate) for _ in range(PARTS)]
    levels = np.array([np.quantile(good(rows)[:, 1], (0.5, 0.99)) for rows in parts]) * 1e3
    p50, p99 = np.median(levels, axis=0)
    rows = np.concatenate(parts)
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "spread": float(np.median(levels[:, 1] / levels[:, 0])),
        "turned": 1 - len(good(rows)) / len(rows),
    }


def again(after: Rows, limit_s: float) -> float:
    """When the first half second ended in which nearly all were answered within the limit."""
    for begin in np.arange(0, AFTER_S - 0.5, 0.5):
        part = after[(after[:, 0] >= begin) & (after[:, 0] < begin + 0.5)]
        if (
            len(part)
            and len(good(part)) >= 0.95 * len(part)
            and np.quantile(good(part)[:, 1], 0.99) <= limit_s
        ):
            return float(begin + 0.5)
    return AFTER_S


def side_by_side(
    folder: Path, seconds: float, python: Path
) -> dict[str, dict[str, dict[str, float]]]:
    clone = make_clone(folder / "clone", git=False)
    for name in ("images", "text_generation"):  # the clone's small models are for tests
        shutil.copy(HERE / "conf" / "recipe" / f"{name}.yaml", clone.folder / "conf" / "recipe")
    env = {
        **clone.env,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(clone.folder),
        **{
            name: environment()[name]
            for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_MODEL_CATALOG_URI")
        },
    }
    subprocess.run(
        [sys.executable, "-c", MAKE, str(HERE)],
        cwd=clone.folder,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (folder / "litserver.py").write_text(LITSERVE)
    (folder / "answers.py").write_text(MLFLOW)
    subprocess.run(
        [
            str(python),
            "-c",
            "import mlflow; mlflow.pyfunc.save_model('model', python_model='answers.py')",
        ],
        cwd=folder,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("images", "text_generation"):
        package = clone.folder / ".tidemill" / "made" / f"{name}-1"
        questions = [row["question"] for row in json.loads((package / "golden.json").read_text())]
        questions = (
            questions[:3]
            if name == "images"
            else [
                {"prompt": "Jeder Mensch hat", "max_tokens": 16, "seed": seed} for seed in range(8)
            ]
        )
        peer_env = {**env, "PACKAGE": str(package)}
        for label in ("ours", "ours, one at a time", "mlflow", "litserve"):
            where = port()
            alone = {"batch": 1, "patience_ms": 60_000} if label == "ours, one at a time" else {}
            shutil.copy(HERE / "conf" / "recipe" / f"{name}.yaml", clone.folder / "conf" / "recipe")
            clone.edit(
                f"recipe/{name}.yaml",
                lambda body, alone=alone: body.setdefault("serve", {}).update(alone),
            )
            bodies = [
                json.dumps({"dataframe_records": [question]} if label == "mlflow" else question)
                for question in questions
            ]
            (folder / "bodies").write_text("\n".join(bodies))
            command, path = {
                "mlflow": (
                    [
                        str(python),
                        "-m",
                        "mlflow",
                        "models",
                        "serve",
                        "-m",
                        str(folder / "model"),
                        "--env-manager",
                        "local",
                        "--host",
                        "127.0.0.1",
                        "--port",
                        str(where),
                    ],
                    "/invocations",
                ),
                "litserve": ([str(python), str(folder / "litserver.py"), str(where)], "/predict"),
            }.get(
                label,
                (
                    [sys.executable, "-m", "tasks.serve", name, "--port", str(where)],
                    f"/v1/{name}/predict",
                ),
            )
            with started(
                command,
                f"http://127.0.0.1:{where}{path}",
                bodies[0].encode(),
                peer_env,
                clone.folder,
                folder / f"{label}.log",
            ) as server:
                found.setdefault(name, {})[label] = measured(
                    server, folder / "bodies", seconds, overload=label == "ours"
                )
            figures = {key: round(value, 2) for key, value in found[name][label].items()}
            print(
                f"{name}, {label}: {figures}",
                file=sys.stderr,
            )
    return found


def rows(found: dict[str, dict[str, dict[str, float]]]) -> Iterator[Row]:
    """What each application's servers took, ours beside each peer and beside itself."""
    for name, servers in found.items():
        for peer, goal in (("mlflow", 0.33), ("litserve", 0.5)):
            yield from beside(f"{name}: ", servers["ours"], peer, servers[peer], goal)
        yield from together(name, servers["ours"], servers["ours, one at a time"])
        yield from under_load(name, servers["ours"])
        first = min(servers[peer]["ready_s"] for peer in ("mlflow", "litserve"))
        yield Row(
            f"{name}: start to the first answer, s", servers["ours"]["ready_s"], first, "<= 3"
        )


def beside(
    name: str, ours: dict[str, float], peer: str, theirs: dict[str, float], cpu_goal: float
) -> Iterator[Row]:
    for figure, words, goal in (
        ("cpu_ms", "CPU of a request, 16 clients, ms", cpu_goal),
        ("alone_cpu_ms", "CPU of a request, one client, ms", cpu_goal),
        ("mb", "memory, MB", 0.5),
    ):
        title = f"{name}{words}, beside {peer}"
        yield Row(title, ours[figure], theirs[figure], f"ratio <= {goal}")
    yield Row(f"{name}answers a second, beside {peer}", ours["per_s"], theirs["per_s"])


def together(name: str, ours: dict[str, float], alone: dict[str, float]) -> Iterator[Row]:
    """Questions answered in batches, beside one at a time."""
    for clients, figure in ((CLIENTS, "per_s"), (MANY, "many_per_s")):
        title = f"{name}: answers a second to {clients} clients, beside one at a time"
        yield Row(title, ours[figure], alone[figure], "ratio >= 2")
    title = f"{name}: processor one at a time, beside it in batches, ms"
    yield Row(title, alone["cpu_ms"], ours["cpu_ms"])


def under_load(name: str, ours: dict[str, float]) -> Iterator[Row]:
    """At 80 % of what it can do, and at ten times that."""
    title = f"{name}: p99 beside p50 at 80 % load, ms"
    yield Row(title, ours["p99_ms"], ours["p50_ms"], "ratio <= 4")
    yield Row(f"{name}: turned away at 80 % load, %", 100 * ours["turned"])
    title = f"{name}: p99 of those taken at ten times the load, beside p99 at 80 %, ms"
    yield Row(title, ours["over_p99_ms"], ours["p99_ms"], "ratio <= 2")
    title = f"{name}: answered a second at ten times the load, beside 16 clients"
    yield Row(title, ours["over_per_s"], ours["per_s"])
    yield Row(f"{name}: memory that the last half of it added, MB", ours["drift_mb"], goal="<= 5")
    yield Row(f"{name}: as before so long after it, s", ours["again_s"], goal="<= 5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    given = parser.parse_args()
    python = peers()
    with tempfile.TemporaryDirectory() as folder:
        found = side_by_side(Path(folder), given.seconds, python)
    show(rows(found), given.json)


if __name__ == "__main__":
    main()
