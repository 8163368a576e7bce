"""What a run leaves behind it: nothing, however it ends, and never anything of another's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import json, os, subprocess, sys, time
from tidemill.runtime.lifetimes import guardian, stopping
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
stopping.listen(lambda code: print("stopped", code, flush=True))
own = {"stdout": subprocess.DEVNULL, "start_new_session": True}
stranger = subprocess.Popen(["sleep", "60"], **own)
guardian.watched()
inner = {**os.environ, guardian.MARK: os.environ[guardian.MARK] + "0"}
children = {
    "plain": subprocess.Popen(["sleep", "60"], **own),
    "stubborn": subprocess.Popen([sys.executable, "-c", STUBBORN], **own),
    "another's": subprocess.Popen(["sleep", "60"], env=inner, **own),
    "stranger": stranger, "guardian": guardian._held[1],
}
time.sleep(0.3)
pids = json.dumps({name: child.pid for name, child in children.items()})
if "end" in sys.argv:
    print(pids, flush=True)
    sys.stdin.readline()
    for name in ("plain", "stubborn"):
        children[name].kill()
    sys.exit(0)
for words in (pids + "\\n", "", ""):
    try:
        print(words, end="", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:     # as an engine that wants to tidy up at length
        continue
"""


def started(*words: str) -> tuple[subprocess.Popen[str], dict[str, psutil.Process]]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout
    return run, {
        name: psutil.Process(pid) for name, pid in json.loads(run.stdout.readline()).items()
    }


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left(children: dict[str, psutil.Process], wait_s: float = 20) -> set[str]:
    """Who still lives once the guardian has gone; ends the rest."""
    until = time.monotonic() + wait_s
    while alive(children["guardian"]) and time.monotonic() < until:
        time.sleep(0.05)
    there = {name for name, child in children.items() if alive(child)}
    for name in there:
        children[name].kill()
    return there


def test_a_run_killed_by_minus_9_leaves_nothing_with_its_mark_and_everything_without() -> None:
    run, children = started()
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert left(children) == {"another's", "stranger"}


def test_the_guardian_hears_no_signal_meant_for_the_run_and_waits() -> None:
    run, children = started()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        children["guardian"].send_signal(number)
    time.sleep(0.3)
    assert all(alive(child) for child in children.values())
    run.kill()
    run.wait()
    assert left(children) == {"another's", "stranger"}


def test_after_a_normal_end_the_guardian_goes() -> None:
    run, children = started("end")
    run.communicate("now\n", timeout=20)
    assert run.returncode == 0
    assert left(children) == {"another's", "stranger"}


def test_sigterm_stops_a_run_even_where_its_main_thread_goes_on() -> None:
    run, children = started()
    run.terminate()
    said, _ = run.communicate(timeout=20)
    assert run.returncode == 143 and said == "stopped 143\n"
    assert not left(children)  # it ends its own children, marked or not


def test_it_starts_with_nothing_but_the_standard_library() -> None:
    code = """
import sys
sys.argv = ["", "x"]
sys.path.insert(0, "tidemill/runtime/lifetimes")
import guardian
print([name for name in ("subprocess", "uuid", "site", "tidemill") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
