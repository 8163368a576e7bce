"""Bad input: one clear line, exit 1 or 2, and what was there stays."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Clone


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr[-800:])
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert "Traceback" not in done.stderr


def test_an_unknown_application_is_refused_before_anything_runs(clone: Clone) -> None:
    refused(clone.tidemill("run", "sentimnet"), 2, "no recipe 'sentimnet'", "languages")
    assert not (clone.folder / "data/raw").exists()


def test_a_recipe_without_gates_is_refused(clone: Clone) -> None:
    clone.edit("recipe/languages.yaml", lambda body: body.update(gates=[]))
    refused(clone.tidemill("run", "languages"), 2, "no gates, no promotion")


def test_a_wrong_package_hash_is_refused(clone: Clone) -> None:
    clone.edit("source/django.yaml", lambda body: body["package"].update(sha256="0" * 64))
    refused(clone.run("tasks.collect", "django"), 2, "conf pins 0000")
    assert not (clone.folder / "data/raw/django/manifest.parquet").exists()


def test_a_source_whose_members_match_nothing_is_empty(clone: Clone) -> None:
    clone.edit("source/django.yaml", lambda body: body.update(members="nothing/*.po"))
    refused(clone.run("tasks.collect", "django"), 2, "source django is empty", "nothing/*.po")


def test_pages_without_usable_text_are_named(clone: Clone) -> None:
    assert clone.run("tasks.collect", "django").returncode == 0
    clone.edit("source/django.yaml", lambda body: body["clean"].update(min_letters=10**6))
    refused(
        clone.run("tasks.clean", "django"),
        2,
        "no page has usable text",
        "fewer than 1000000 letters",
    )


def test_no_network_is_one_line_and_keeps_what_there_is(clone: Clone, tmp_path: Path) -> None:
    done = clone.run(
        "tasks.collect",
        "django",
        TIDEMILL_CACHE=str(tmp_path / "empty"),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
        PIP_CONFIG_FILE="/dev/null",
        PIP_RETRIES="0",
        PIP_DEFAULT_TIMEOUT="2",
    )
    refused(done, 75, "cannot fetch Django", "check the network")


def test_a_port_in_use_is_named(clone: Clone) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        clone.edit("source/udhr.yaml", lambda body: body["mirror"].update(port=port))
        refused(clone.run("tasks.collect", "udhr"), 2, f"port {port}", "in use")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")
@pytest.mark.system
def test_a_full_disk_is_one_line_and_leaves_the_last_state(clone: Clone) -> None:
    raw = clone.folder / "data" / "raw"
    raw.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(raw)], check=True)
    try:
        refused(clone.run("tasks.collect", "software"), 1, "disk is full")
        assert not (raw / "software/manifest.parquet").exists()
    finally:
        subprocess.run(["umount", str(raw)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a folder read-only")
@pytest.mark.system
def test_a_read_only_data_folder_is_one_line(clone: Clone) -> None:
    data = clone.folder / "data"
    data.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(data)], check=True)
    try:
        refused(clone.run("tasks.collect", "django"), 1, "writable")
    finally:
        subprocess.run(["umount", str(data)], check=True)


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """The exit code of the command line, in this process."""
    from tidemill.cli.main import main

    monkeypatch.setattr(sys, "argv", ["tidemill", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sources chek", "'check'"),
        ("histroy languages", "'history'"),
        ("run --nope", "--nope"),
        ("approve languages", "'--why'"),
        ("label export images --rows 0", "'--rows'"),
        ("clean --days soon", "'--days'"),
        ("run languages --json=3", "'--json'"),
    ],
)
def test_a_typing_error_is_one_line_and_code_2(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(monkeypatch, *line.split()) == 2
    out, error = capsys.readouterr()
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
    assert not out


@pytest.mark.parametrize("line", ["", "data", "label"])
def test_a_command_without_its_subcommand_prints_the_help_and_no_error(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(monkeypatch, *line.split()) == 2
    out, error = capsys.readouterr()
    assert "Usage" in out + error and "error:" not in error


def test_the_version_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import version

    assert typed(monkeypatch, "--version") == 0
    assert capsys.readouterr() == (f"tidemill {version('tidemill')}\n", "")


def test_an_interrupted_command_is_one_line_and_code_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.engines.mlflow import condition

    def interrupted() -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(condition, "conditions", interrupted)
    assert typed(monkeypatch, "status") == 130
    assert capsys.readouterr().err.startswith("error: stopped;")


@pytest.mark.parametrize(
    "line",
    [
        "history nope",
        "history nope --json",
        "card nope",
        "card nope@3 --json",
        "rollback nope",
        "rollback nope --json",
        "approve nope --why x",
    ],
)
def test_an_unknown_application_is_named_with_the_choices(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert typed(monkeypatch, *line.split()) == 2
    out, error = capsys.readouterr()
    assert (
        error.startswith("error: no application 'nope'; there are credit, diagnosis, images")
        and error.count("\n") == 1
        and not out
    )
    assert not list(tmp_path.iterdir())


def test_help_is_quick_to_load() -> None:
    heavy = ("prefect", "mlflow", "torch", "pandas", "optuna")
    code = f"import sys, tidemill.cli.main; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == "[]"
