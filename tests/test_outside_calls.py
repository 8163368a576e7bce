"""What we start speaks with this machine alone.

Every connect(2) is looked at, whatever library makes it.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE, Clone

strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
ADDRESS = re.compile(r'inet_addr\("([0-9.]+)"\)|inet_pton\(AF_INET6, "([0-9a-f:.]+)"')
DNS = re.compile(r"htons\(53\)")
SMALL = """
import tidemill
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from mlflow import MlflowClient
graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert session.run(None, {"x": np.ones(1, "float32")})[0][0] == 1
MlflowClient("sqlite:///mlflow.db").search_experiments()
import time; time.sleep(2)      # what is sent is sent by a thread
"""


def outside(log: Path) -> list[str]:
    """The calls to anywhere but loopback, and the questions to a name server."""
    lines = []
    for line in log.read_text(errors="replace").splitlines():
        addresses = [one or other for one, other in ADDRESS.findall(line)]
        local = all(item.startswith("127.") or item in ("::1", "0.0.0.0") for item in addresses)
        if addresses and (not local or DNS.search(line)):
            lines.append(line)
    return lines


def traced(log: Path, command: list[str], **more) -> "subprocess.CompletedProcess[str]":
    tracer = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-e", "signal=none"]
    return subprocess.run(
        [*tracer, "-o", str(log), *command], capture_output=True, text=True, **more
    )


@strace
def test_the_engines_a_step_uses_call_nobody_outside(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(HERE), "HOME": str(tmp_path)}
    done = traced(log, [sys.executable, "-c", SMALL], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert not outside(log)


@strace
@pytest.mark.system
@pytest.mark.timeout(3600)
def test_a_run_and_the_servers_call_nobody_outside(clone: Clone, tmp_path: Path) -> None:
    for name, arguments in (
        ("run", ["run", "languages", "--json"]),
        ("up", ["up", "--detach"]),
        ("status", ["status", "--json"]),
        ("night", ["run", "languages", "model.lr=0.0021", "--dry-run", "--json"]),
        ("down", ["down"]),
    ):
        log = tmp_path / name
        command = [sys.executable, "-m", "tidemill.cli", *arguments]
        done = traced(log, command, cwd=clone.folder, env=clone.env, timeout=1500)
        assert done.returncode == 0, done.stderr
        assert not outside(log), name
