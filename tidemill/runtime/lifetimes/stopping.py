"""Ctrl-C and SIGTERM end a run from the command line alike.

It ends within seconds, with one line, and nothing of it works on.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

PATIENCE_S = 3.0

Say = Callable[[int], object]
_say: list[Say] = []  # told the exit code; there once a run listens
_heard: list[int] = []
_leaving = threading.Lock()


def listen(say: Say) -> None:
    """From here on both signals stop this process. `say` gets the exit code, before the end."""
    _say[:] = [say]
    keep()


def keep() -> None:
    """Take the signals once more, within the flow.

    Prefect's engine takes SIGTERM for itself, and waits for every task to end.
    """
    if _say and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    """The engines get a moment to note it, without a word; then everything we started ends.

    Prefect's temporary server may hear the same signal, and its client would ask the dead server
    for minutes.
    """
    _heard.append(number)
    if len(_heard) > 1:  # the first one is being obeyed
        return
    logging.disable(logging.CRITICAL)
    timer = threading.Timer(PATIENCE_S, leave)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def leave() -> None:
    """End now, with what we started, where a signal was heard; else nothing."""
    import psutil

    if not _heard:
        return
    _leaving.acquire()  # and keep it: once
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # the cursor, which the live display hid
    code = 128 + _heard[0]
    _say[0](code)
    os._exit(code)
