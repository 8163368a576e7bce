"""A child that fails says why in its own words, however it ends."""

import sqlite3
import sys

import pytest

from tidemill.runtime import process
from tidemill.runtime.errors import Fault, Refused

SAYS = "import os, sys; print('error: the loss is NaN', file=sys.stderr, flush=True); "


def test_a_child_that_spoke_and_was_then_killed_keeps_its_words_and_is_not_tried_again() -> None:
    command = [sys.executable, "-c", SAYS + "os.kill(os.getpid(), 9)"]
    with pytest.raises(Fault, match=r"the loss is NaN \(a step was ended by SIGKILL") as fault:
        process.run("a step", command)
    assert not fault.value.heals


def test_a_child_that_was_killed_without_a_word_may_be_tried_again() -> None:
    command = [sys.executable, "-c", "import os; print('at work'); os.kill(os.getpid(), 9)"]
    with pytest.raises(Fault, match="a step was killed by SIGKILL") as fault:
        process.run("a step", command)
    assert fault.value.heals and fault.value.killed


@pytest.mark.parametrize(("code", "kind"), [(2, Refused), (1, Fault), (75, Fault)])
def test_a_child_that_was_asked_answers_or_says_why_not(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="what it was: the loss is NaN"):
        process.ask("what it was", [sys.executable, "-c", f"{SAYS}sys.exit({code})"])
    assert process.ask("what", [sys.executable, "-c", "print('an answer')"]) == "an answer\n"


def test_a_child_that_hangs_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(Fault, match=r"showed no progress for .* and was stopped") as fault:
        process.run("a step", command, silent_s=0.5)
    assert fault.value.heals


def test_a_child_that_shows_progress_may_take_any_time() -> None:
    says = """print('@progress {"done": 1, "total": 9}', flush=True)"""
    code = f"import time\nfor _ in range(9):\n    {says}\n    time.sleep(0.5)"
    assert process.run("a step", [sys.executable, "-c", code], silent_s=3.0).wall_s > 3.0


def test_lines_of_progress_that_were_mixed_end_nothing() -> None:
    mixed = '@progress {"done": 1, "total": 9}@progress {"done": 2'
    command = [sys.executable, "-c", f"print({mixed!r}); print('@progress 7')"]
    assert process.run("a step", command).wall_s > 0


def test_a_full_disk_is_called_so_whoever_notices_it() -> None:
    for error in (
        OSError(28, "No space left on device", "data/x"),
        sqlite3.OperationalError("database or disk is full"),
    ):
        assert process.explain(error).startswith("the disk is full")
