"""What our processes run with: no telemetry, no proxy before loopback, the project's own code."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tidemill
from tests.conftest import HERE
from tidemill.runtime import addresses

BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.mark.parametrize("package", ["tidemill", "tasks", "recipes", "flows"])
def test_telemetry_is_off_before_any_engine_can_be_imported(package: str) -> None:
    code = f"""
import os, sys
import {package}
engines = {{"onnxruntime", "prefect", "mlflow", "dvc", "ray", "torch"}} & set(sys.modules)
assert not engines, engines
print(*(f"{{name}}={{os.environ.get(name)}}" for name in {sorted(tidemill.TELEMETRY_OFF)}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, env=BARE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"{name}={value}" for name, value in sorted(tidemill.TELEMETRY_OFF.items())
    ]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost, a.org"}, "localhost,a.org,127.0.0.1,::1"),
        ({"NO_PROXY": "a.org", "no_proxy": "b.org"}, "a.org,b.org,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_loopback_needs_no_proxy_whatever_the_environment_says(
    given: dict[str, str], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    import requests.utils

    assert addresses.direct(given) == {"NO_PROXY": value, "no_proxy": value}
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, text in addresses.direct(given).items():
        monkeypatch.setenv(name, text)
    for url in ("http://127.0.0.1:4200/api", "http://localhost:5000", "http://[::1]:8000"):
        assert requests.utils.should_bypass_proxies(url, None)
        with httpx.Client() as client:
            assert client._transport_for_url(httpx.URL(url)) is client._transport


def test_a_socks_proxy_that_no_client_here_can_speak_with_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import httpx

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ImportError):
        httpx.Client()
    for name, text in addresses.direct().items():
        monkeypatch.setenv(name, text)
    httpx.Client().close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE / name, source)
    for name in ("tidemill", "flows", "tasks", "recipes"):
        shutil.copytree(HERE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "-w",
            str(built),
            str(source),
        ],
        check=True,
        capture_output=True,
    )
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        archive.extractall(folder)
    return folder


def test_an_installed_wheel_adds_one_import_name(wheel: Path) -> None:
    names = {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"tidemill"}


def command(wheel: Path, cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The console script of the wheel, as pip writes it."""
    code = "import sys; from tidemill.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(wheel), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_outside_a_project_the_command_says_where_to_go(wheel: Path, tmp_path: Path) -> None:
    for arguments in (["status"], ["run", "languages"], ["up"], ["data", "list"], ["down"]):
        done = command(wheel, tmp_path, *arguments)
        assert done.returncode == 2, done.stderr
        assert "is in no project" in done.stderr and "cd into a project" in done.stderr
        assert done.stderr.count("\n") == 1
    assert command(wheel, tmp_path, "--help").returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_installed_command_uses_the_steps_of_the_project_it_is_in(
    wheel: Path, tmp_path: Path
) -> None:
    for name in ("conf", "flows", "tasks", "recipes"):
        shutil.copytree(HERE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    mark = tmp_path / "tasks" / "__init__.py"
    mark.write_text(mark.read_text() + "print('the steps of', __file__)\n")
    below = tmp_path / "conf" / "source"
    done = command(wheel, below, "new", "mine", "--like", "languages", "--data", "nowhere")
    assert str(mark) in done.stdout, done.stdout + done.stderr
    assert done.returncode == 2 and "nowhere" in done.stderr
