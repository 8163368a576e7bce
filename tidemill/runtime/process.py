"""Heavy work runs in a child process, `python -m tasks.STEP`, that answers with a receipt.

The child writes its receipt to the path in TIDEMILL_RECEIPT; its stdout is log. A line that begins
with `@progress` is progress. It dies with the process that started the run, however that one dies.
"""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, TypeVar

from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line, one_line_logs
from tidemill.runtime.events import Event, StepCost, StepProgress, TrialRow
from tidemill.runtime.files import canonical
from tidemill.runtime.lifetimes import kernel, owner
from tidemill.runtime.paths import environment, root, state
from tidemill.runtime.rank import rank
from tidemill.runtime.receipt import Receipt

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Receipt)

PROGRESS, ERROR = "@progress ", "error: "
EXIT_FAULT, EXIT_REFUSED, EXIT_AGAIN = 1, 2, 75

Listener = Callable[[str, Event], None]
listeners: list[Listener] = []
"""Called with (step, event): progress lines, starts and ends; the terminal's panel is one."""


def tell(step: str, event: Event) -> None:
    for listener in listeners:
        listener(step, event)


def progress(done: float, total: float | None, unit: str, **more: object) -> None:
    """From a child: how far this step is. Of several processes one says it."""
    if rank():
        return
    told = canonical({"done": done, "total": total, "unit": unit, **more})
    # In one write, since several processes of a training share the output.
    sys.stdout.write(f"{PROGRESS}{told}\n")
    sys.stdout.flush()


class _Log:
    """A child's output: its lines go to the step's log, its progress to the listeners."""

    def __init__(self, step: str) -> None:
        self.step = step
        name = step.replace(" ", "-").replace("/", "-")
        self.path = state("logs", "steps", f"{name}.log")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines: list[str] = []  # the last one, and what the child itself called an error
        self.heard = time.monotonic()  # of the child, last

    def follow(self, stdout: IO[bytes]) -> None:
        """Read until the child closes its output."""
        with self.path.open("a", errors="replace") as file:
            for raw in stdout:
                self.heard = time.monotonic()
                line = raw.decode(errors="replace").rstrip()
                if (event := _event(line)) is not None:
                    tell(self.step, event)
                elif line:
                    file.write(line + "\n")
                    log.info("%s", line)
                    self.lines = [*(item for item in self.lines if _is_error(item)), line]

    @property
    def shown(self) -> str:
        return self.path.relative_to(root()).as_posix()


def _event(line: str) -> StepProgress | TrialRow | None:
    """What a line of progress says; None for any other, and for one that was mixed with another."""
    if not line.startswith(PROGRESS):
        return None
    try:
        fields = json.loads(line[len(PROGRESS) :])
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    if "row" in fields:
        return TrialRow(fields["row"])
    return StepProgress.of(**fields) if "done" in fields else None


def _is_error(line: str) -> bool:
    return line.startswith(ERROR)


def why(lines: Sequence[str]) -> tuple[str, bool]:
    """What a child's output says of its end: its last `error: ` line, else its last line.

    Whether it was the former.
    """
    spoken = [line.strip() for line in lines if line.strip()]
    errors = [line[len(ERROR) :] for line in spoken if _is_error(line)]
    return (errors or spoken or ["it said nothing"])[-1], bool(errors)


def run(
    step: str, command: list[str], silent_s: float | None = None, env: dict[str, str] | None = None
) -> StepCost:
    """Run a command to its end; its lines go to the log of the step.

    It may take as long as it likes, and is killed where it prints nothing, no progress either, for
    `silent_s`. Raises `Refused` where it exits with 2, `Fault` otherwise; a kill can heal.
    """
    started = time.monotonic()
    output = _Log(step)
    child = _start(step, command, env or {})
    hung = threading.Event()
    try:
        with _ended_when_silent(child, output, silent_s, hung):
            assert child.stdout is not None
            output.follow(child.stdout)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if child.returncode is None:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()
    wall = time.monotonic() - started
    if child.returncode:
        raise _failure(output, child.returncode, wall, silent_s if hung.is_set() else None)
    return StepCost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _start(step: str, command: list[str], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            cwd=root(),
            env={**variables(), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=kernel.die_with_parent,
        )
    except OSError as error:
        raise Fault(f"{step}: cannot start {command[0]}: {error.strerror}") from error


@contextmanager
def _ended_when_silent(
    child: "subprocess.Popen[bytes]", output: _Log, silent_s: float | None, hung: threading.Event
) -> Iterator[None]:
    """Kill the child, and set `hung`, where it prints nothing for `silent_s` within the block."""
    if silent_s is None:
        yield
        return
    over = threading.Event()

    def watch(limit_s: float) -> None:
        while (left_s := output.heard + limit_s - time.monotonic()) > 0:
            if over.wait(left_s):
                return
        hung.set()
        child.kill()

    threading.Thread(target=watch, args=(silent_s,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _failure(output: _Log, code: int, wall_s: float, silent_s: float | None) -> Exception:
    """How a child's end is called: by its own words where it had any."""
    step, (words, own) = output.step, why(output.lines)
    if code == EXIT_REFUSED:
        return Refused(words)
    if code < 0 and silent_s:
        return Fault(
            f"{step} showed no progress for {silent_s / 60:.0f} minutes (step.timeout_minutes) "
            f"and was stopped (log: {output.shown})",
            heals=True,
        )
    name = signal.Signals(-code).name if code < 0 else ""
    if name and own:  # it said why, and was ended afterwards, as one rank is with the others
        return Fault(f"{words} ({step} was ended by {name}; log: {output.shown})")
    if name:
        return Fault(
            f"{step} was killed by {name} after {wall_s:.0f} s (log: {output.shown})",
            heals=True,
            killed=name == "SIGKILL",
        )
    return Fault(
        words if own else f"{step} failed: {words} (log: {output.shown})",
        heals=code == EXIT_AGAIN,
    )


def python(module: str, *arguments: str) -> list[str]:
    """The command of a Python child."""
    return [sys.executable, "-m", module, *arguments]


def ask(
    what: str,
    command: list[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a child to its end and give what it printed.

    Raises `Refused` where it exits with 2 and `Fault` otherwise, with its own `error: ` line, or
    its last one.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd or root(),
            env=dict(env) if env is not None else variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(f"{what} took longer than {timeout_s:.0f} s", heals=True) from error
    except OSError as error:
        raise Fault(f"{what}: cannot start {command[0]}: {error.strerror}") from error
    if done.returncode == 0:
        return done.stdout
    words, _ = why((done.stdout + done.stderr).splitlines())
    kind = Refused if done.returncode == EXIT_REFUSED else Fault
    raise kind(f"{what}: {words}")


def variables() -> dict[str, str]:
    """What a child of ours runs with."""
    return {
        **os.environ,
        **environment(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root()), os.environ.get("PYTHONPATH")])),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        owner.OWNER: str(os.getpid()),
    }


def answer(
    step: str,
    module: str,
    arguments: list[str],
    kind: type[R],
    receipt: Path | None = None,
    silent_s: float | None = None,
    env: dict[str, str] | None = None,
) -> R:
    """Run `python -m MODULE ARGUMENTS` and read the receipt it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        path = receipt or Path(folder) / "receipt.json"
        cost = run(
            step,
            python(module, *arguments),
            silent_s,
            {**(env or {}), "TIDEMILL_RECEIPT": str(path)},
        )
        answered = kind.load(path)
    if answered is None:
        raise Fault(f"{step} ended without a receipt")
    log.info(
        "%s: %.1f s, %.1f s of processor, %.0f MB", step, cost.wall_s, cost.cpu_s, cost.peak_mb
    )
    tell(step, cost)
    return answered


def main(
    work: Callable[[list[str]], Receipt | None], usage: str, all_ranks: bool = False
) -> NoReturn:
    """The shell side of a step: run `work` on the arguments, leave its receipt, exit by it.

    Started once for each process of a training, as torchrun does it, a step is done by the first
    one alone, unless it is a training for all of them.
    """
    if rank() and not all_ranks:
        sys.exit(0)
    settle_child()
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0)
    code = _code(work, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the engines must not hold up a child that has answered.
    os._exit(code)


def _code(work: Callable[[list[str]], Receipt | None], arguments: list[str]) -> int:
    """The exit code of a step, once its receipt is left or its error said."""
    try:
        receipt = work(arguments)
        if receipt is not None and (path := os.environ.get("TIDEMILL_RECEIPT")):
            receipt.save(Path(path))
        elif receipt is not None:
            print(receipt.model_dump_json())
        return 0
    except Refused as error:
        return _say(error, EXIT_REFUSED)
    except Fault as error:
        return _say(error, EXIT_AGAIN if error.heals else EXIT_FAULT)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return _say(explain(error), EXIT_FAULT)


SQLITE_FULL = "database or disk is full"


def explain(error: Exception) -> str:
    """An unexpected error as one line, with the remedy where the system names the cause."""
    where = getattr(error, "filename", None)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC or SQLITE_FULL in str(error):
        place = f" at {where}" if where else ""
        return f"the disk is full{place}; free some space and run again, nothing was lost"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        reason = f"{where or 'a file'}: {os.strerror(number)}"
        return f"cannot write {reason}; make the folder writable and run again"
    return f"{type(error).__name__}: {error}"


def settle_child() -> None:
    """A child's log, variables and end: what every step does first."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    one_line_logs()
    for noisy in ("matplotlib", "alembic", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.update(environment())
    owner.watch(EXIT_FAULT)


def _say(error: object, code: int) -> int:
    sys.stderr.write(f"{ERROR}{line(error)}\n")
    sys.stderr.flush()
    return code
