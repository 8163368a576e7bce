"""A tiny process that outlives `tidemill run` by seconds.

So a run that is killed by -9 leaves nothing that works on, or waits, for nobody.

Steps die with the run by themselves (tidemill/runtime/process.py). Prefect's temporary server does
not, and kept its port for ever. Everything a run starts carries its mark, TIDEMILL_RUN, in its
environment; the guardian waits for the run's end, which closes a pipe, ends what still carries the
mark, and goes. Runs within runs have marks and guardians of their own.

    python -I -S tidemill/runtime/lifetimes/guardian.py MARK
"""

import os
import signal
import sys
import time
from pathlib import Path

MARK = "TIDEMILL_RUN"
PATIENCE_S, GIVE_UP_S = 2.0, 30.0
_held: list[object] = []  # the guardian and the pipe's end that this process alone has


def watched() -> None:
    """Start this run's guardian, and mark what is started from here on.

    Nothing where there is no /proc.
    """
    import subprocess
    import uuid

    if not Path("/proc/self/environ").exists():
        return
    mark = str(uuid.uuid4())
    outside = {
        name: value for name, value in os.environ.items() if name != MARK
    }  # of a run that this one may be within
    reading, writing = os.pipe()
    nothing = subprocess.DEVNULL
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=reading,
        stdout=nothing,
        stderr=nothing,
        cwd="/",
        env=outside,
        start_new_session=True,
    )
    _held.extend((writing, guardian))
    os.close(reading)
    os.environ[MARK] = mark


def end(mark: str, number: int) -> int:
    """Send a signal to every process of this user that carries the mark; how many they were."""
    wanted, found = f"{MARK}={mark}".encode(), 0
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            handle = os.pidfd_open(
                int(path.name)
            )  # of this very process, should its number be given to another
        except OSError:
            continue
        try:
            if path.stat().st_uid == os.getuid() and wanted in (
                path / "environ"
            ).read_bytes().split(b"\0"):
                signal.pidfd_send_signal(handle, number)
                found += 1
        except OSError:
            continue
        finally:
            os.close(handle)
    return found


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        continue
    began = time.monotonic()
    while (spent := time.monotonic() - began) < GIVE_UP_S and end(
        sys.argv[1], signal.SIGTERM if spent < PATIENCE_S else signal.SIGKILL
    ):
        time.sleep(0.1)


if __name__ == "__main__":
    main()
