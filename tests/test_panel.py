"""What a person reads while a run works, and after it."""

import io
import logging
from typing import Any

import pytest
from rich.console import Console

from flows.panel import Night, then
from tasks.telling import Page

STEP = "train images"


def event(training: str, done: int, **more: Any) -> dict[str, Any]:
    return {"training": training, "done": done, "total": 177, "unit": "steps", **more}


def read(*events: dict[str, Any], terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    with Night(console) as night:
        night.began -= 60     # what came within the first ten seconds is not worth a line
        night(STEP, {"began": True})
        for one in events:
            night(STEP, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_told_which_of_several_trainings_goes_on_and_once_from_where(terminal: bool) -> None:
    said = read(event("train images: the model itself", 147, epoch=3), event("train images: member 1", 5, resumed=5), event("train images: member 1", 8, epoch=1), terminal=terminal)
    assert said.count("train images: member 1: goes on from its checkpoint at step 5 of 177") == 1
    assert "member 1: 8 of 177 steps, epoch 1" in said if terminal else "the model itself: 147 of 177 steps, epoch 3" in said
    assert "training" not in said and "resumed" not in said


def test_the_only_training_of_a_step_needs_no_name() -> None:
    assert "train images: 8 of 177 steps, epoch 1\n" in read(event(STEP, 8, epoch=1))


def test_the_log_names_the_training_too(caplog: pytest.LogCaptureFixture) -> None:
    page = Page(STEP)
    page.logged -= 60
    with caplog.at_level(logging.INFO, logger="tasks.telling"):
        page(STEP, event("train images: teacher 2", 5, resumed=5))
        page.logged -= 60
        page(STEP, event("train images: teacher 2", 8, epoch=1))
    assert caplog.messages == ["train images: teacher 2: goes on from its checkpoint at step 5 of 177", "train images: teacher 2: 8 of 177 steps, epoch 1"]


@pytest.mark.parametrize(("state", "version", "live", "waiting", "first"), [
    ("Promoted", "2", "2", None, "tidemill predict images INPUT"),
    ("Rejected", "2", "1", None, "tidemill predict images INPUT"),
    ("Held", "2", "1", "2", 'tidemill approve images --why "..."'),
    ("Held", "1", None, "1", 'tidemill approve images --why "..."'),
    ("Rejected", "1", None, None, "tidemill card images@1"),
    ("Unchanged", "2", None, "1", "tidemill card images@2"),
    ("DryRun", None, None, None, "tidemill run images"),
])
def test_what_is_proposed_next_is_not_refused(state: str, version: str | None, live: str | None, waiting: str | None, first: str) -> None:
    found = then({"application": "images", "state": state, "version": version}, live, waiting)
    assert found[0] == first and found[-2:] == ["tidemill status", "tidemill up"]
    assert any("predict" in words for words in found) == bool(live)
