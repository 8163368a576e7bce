"""Heavy work runs in a child process, `python -m tasks.STEP`, that answers with a receipt.

The child writes its receipt to the path in TIDEMILL_RECEIPT; its stdout is log. A line that begins
with `@progress` is progress. It dies with the process that started the run, however that one dies.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line, one_line_logs
from tidemill.runtime.files import canonical
from tidemill.runtime.paths import environment, root, state
from tidemill.runtime.receipt import Receipt

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Receipt)

PROGRESS = "@progress "
EXIT_FAULT, EXIT_REFUSED, EXIT_AGAIN = 1, 2, 75

Listener = Callable[[str, dict], None]
listeners: list[Listener] = []
"""Called with (step, event): progress lines, starts and ends; the terminal's panel is one."""


def tell(step: str, **event: object) -> None:
    for listener in listeners:
        listener(step, dict(event))


def progress(done: float, total: float | None, unit: str, **more: object) -> None:
    """From a child: how far this step is."""
    print(PROGRESS + canonical({"done": done, "total": total, "unit": unit, **more}), flush=True)


class Child:
    """What a finished child cost: seconds, processor seconds, peak memory in MB."""

    def __init__(self, wall_s: float, cpu_s: float, peak_mb: float) -> None:
        self.wall_s, self.cpu_s, self.peak_mb = wall_s, cpu_s, peak_mb


def run(
    step: str, command: list[str], timeout_s: float | None = None, env: dict[str, str] | None = None
) -> Child:
    """Run a command to its end; its lines go to the log of the step.

    Raises `Refused` where it exits with 2, `Fault` otherwise; a kill and a time-out can heal.
    """
    started = time.monotonic()
    path = state("logs", "steps", f"{step.replace(' ', '-').replace('/', '-')}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        child = subprocess.Popen(
            command,
            cwd=root(),
            env={**variables(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    except OSError as error:
        raise Fault(f"{step}: cannot start {command[0]}: {error.strerror}") from error
    timer = threading.Timer(timeout_s, child.kill) if timeout_s else None
    if timer:
        timer.daemon = True
        timer.start()
    last, errors = "", []
    try:
        assert child.stdout is not None
        with path.open("a", errors="replace") as file:
            for raw in child.stdout:
                line = raw.decode(errors="replace").rstrip()
                if line.startswith(PROGRESS):
                    tell(step, **json.loads(line[len(PROGRESS) :]))
                    continue
                if not line:
                    continue
                file.write(line + "\n")
                log.info("%s", line)
                last = line
                if line.startswith("error: "):
                    errors.append(line[len("error: ") :])
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if timer:
            timer.cancel()
        if child.returncode is None:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()
    wall = time.monotonic() - started
    if child.returncode == 0:
        return Child(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    why = errors[-1] if errors else last or "it said nothing"
    if child.returncode == EXIT_REFUSED:
        raise Refused(why)
    if child.returncode < 0:
        if timeout_s and wall >= timeout_s:
            raise Fault(
                f"{step} took longer than {timeout_s / 60:.0f} minutes and was stopped", heals=True
            )
        name = signal.Signals(-child.returncode).name
        raise Fault(
            f"{step} was killed by {name} after {wall:.0f} s (log: {path.relative_to(root())})",
            heals=True,
            killed=name == "SIGKILL",
        )
    raise Fault(
        why if errors else f"{step} failed: {why} (log: {path.relative_to(root())})",
        heals=child.returncode == EXIT_AGAIN,
    )


def variables() -> dict[str, str]:
    """What a child of ours runs with."""
    return {
        **os.environ,
        **environment(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(root()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "TIDEMILL_OWNER": str(os.getpid()),
    }


def answer(
    step: str,
    module: str,
    arguments: list[str],
    kind: type[R],
    receipt: Path | None = None,
    timeout_s: float | None = None,
    env: dict[str, str] | None = None,
) -> R:
    """Run `python -m MODULE ARGUMENTS` and read the receipt it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        path = receipt or Path(folder) / "receipt.json"
        child = run(
            step,
            [sys.executable, "-m", module, *arguments],
            timeout_s,
            {**(env or {}), "TIDEMILL_RECEIPT": str(path)},
        )
        found = kind.load(path)
    if found is None:
        raise Fault(f"{step} ended without a receipt")
    log.info(
        "%s: %.1f s, %.1f s of processor, %.0f MB", step, child.wall_s, child.cpu_s, child.peak_mb
    )
    tell(step, cost={"wall_s": child.wall_s, "cpu_s": child.cpu_s, "peak_mb": child.peak_mb})
    return found


def main(work: Callable[[list[str]], Receipt | None], usage: str) -> NoReturn:
    """The shell side of a step: run `work` on the arguments, leave its receipt, exit as promised."""
    settle_child()
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0)
    try:
        receipt = work(arguments)
        if receipt is not None and (path := os.environ.get("TIDEMILL_RECEIPT")):
            receipt.save(Path(path))
        elif receipt is not None:
            print(receipt.model_dump_json())
        code = 0
    except Refused as error:
        code = _say(error, EXIT_REFUSED)
    except Fault as error:
        code = _say(error, EXIT_AGAIN if error.heals else EXIT_FAULT)
    except OSError as error:
        traceback.print_exc(file=sys.stdout)
        code = _say(explain(error), EXIT_FAULT)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        code = _say(f"{type(error).__name__}: {error}", EXIT_FAULT)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the engines must not hold up a child that has answered.
    os._exit(code)


def explain(error: OSError) -> str:
    """An operating system's error as one line with its remedy."""
    import errno

    where = error.filename or ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{f' at {where}' if where else ''}; free some space and run again, nothing was lost"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot write {where or 'a file'}: {error.strerror}; make the folder writable and run again"
    return f"{type(error).__name__}: {error}"


def settle_child() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    one_line_logs()
    for noisy in ("matplotlib", "alembic", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.update(environment())
    owner = os.environ.get("TIDEMILL_OWNER")
    if owner and int(owner) != os.getpid():
        threading.Thread(target=_watch, args=(int(owner),), daemon=True).start()


def _say(error: object, code: int) -> int:
    print("error: " + line(error), file=sys.stderr, flush=True)
    return code


def me() -> dict[str, Any]:
    """What tells this process from every other, before and after a restart of the machine."""
    return {
        "host": socket.gethostname(),
        "boot": boot(),
        "pid": os.getpid(),
        "began": began(os.getpid()),
    }


def lives(who: dict[str, Any]) -> bool:
    """Whether a process of this machine that said `me` is still there."""
    return who.get("boot") == boot() and began(who.get("pid", 0)) == who.get("began", 0)


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did, which a clock that is set does not move (proc(5)); None where it is no more, or dead and not yet waited for."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def die_with_parent() -> None:
    """For a child before it runs: the kernel ends it when its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _watch(owner: int) -> None:
    """End this process when its owner is gone: a grandchild, through DVC, gets no signal from the kernel."""
    while Path(f"/proc/{owner}").exists():
        time.sleep(0.5)
    os._exit(EXIT_FAULT)
