"""What a person reads while a run works, and after it."""

import io
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tasks.judge.gates import by
from tidemill.cli.panel import NightPanel, then
from tidemill.cli.predict import asking
from tidemill.cli.status import table
from tidemill.engines.prefect.progress import ProgressPage
from tidemill.records.receipts import End, Promoted, Swept
from tidemill.runtime import process
from tidemill.runtime.errors import Refused
from tidemill.runtime.events import Event, StepBegan, StepEnded, StepProgress, TrialRow

STEP = "train images"


def event(training: str, done: int, **more: Any) -> StepProgress:
    return StepProgress.of(done, training=training, total=177, unit="steps", **more)


def ended(application: str, state: str, version: str | None = None) -> End:
    whole = {"because": "", "key": "", "snapshot": "", "at": ""}
    return End.model_validate(
        {**whole, "application": application, "state": state, "version": version}
    )


def read(*events: StepProgress, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
    with NightPanel(console) as night:
        night.began -= 60  # what came within the first ten seconds is not worth a line
        night(STEP, StepBegan())
        for one in events:
            night(STEP, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_told_which_of_several_trainings_goes_on_and_once_from_where(terminal: bool) -> None:
    said = read(
        event("train images: the model itself", 147, epoch=3),
        event("train images: member 1", 5, resumed=5),
        event("train images: member 1", 8, epoch=1),
        terminal=terminal,
    )
    assert said.count("train images: member 1: goes on from its checkpoint at step 5 of 177") == 1
    assert (
        "member 1: 8 of 177 steps, epoch 1" in said
        if terminal
        else "the model itself: 147 of 177 steps, epoch 3" in said
    )
    assert "training" not in said and "resumed" not in said


def test_the_only_training_of_a_step_needs_no_name() -> None:
    assert "train images: 8 of 177 steps, epoch 1\n" in read(event(STEP, 8, epoch=1))


def test_the_log_names_the_training_too(caplog: pytest.LogCaptureFixture) -> None:
    page = ProgressPage(STEP)
    page.logged -= 60
    with caplog.at_level(logging.INFO, logger="tidemill.engines.prefect.progress"):
        page(STEP, event("train images: teacher 2", 5, resumed=5))
        page.logged -= 60
        page(STEP, event("train images: teacher 2", 8, epoch=1))
    assert caplog.messages == [
        "train images: teacher 2: goes on from its checkpoint at step 5 of 177",
        "train images: teacher 2: 8 of 177 steps, epoch 1",
    ]


def test_a_child_s_progress_lines_are_events_with_the_figures_that_it_named() -> None:
    events: list[Event] = []

    def listen(step: str, event: Event) -> None:
        events.append(event)

    process.listeners.append(listen)
    try:
        code = (
            "from tidemill.runtime import process\n"
            "process.progress(3, 9, 'steps', training='a', loss=0.5, epoch=1)\n"
            'print(process.PROGRESS + \'{"row": {"trial": 1}}\')\n'
            "print(process.PROGRESS + '{}')"
        )
        process.run("a step", [sys.executable, "-c", code])
    finally:
        process.listeners.remove(listen)
    assert events == [
        StepProgress(3, 9, "steps", training="a", figures={"epoch": 1, "loss": 0.5}),
        TrialRow({"trial": 1}),
    ]


def test_the_panel_tells_of_the_best_trial_and_of_the_version_that_went_live() -> None:
    console = Console(file=io.StringIO(), width=200)
    with NightPanel(console) as night:
        swept = Swept(trials=2, complete=2, metric="f1", value=0.5, params={"lr": 0.25, "bits": 14})
        night("sweep images", StepEnded(swept, 1.0))
        night("promoted", Promoted(name="images", version="2", previous="1", moved=True))
        night("end", ended("images", "Promoted", "2"))
        console.print(night.panel())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "2 trials, f1 0.5000; lr 0.25, bits 14" in text
    assert "images 2, now @champion" in text


@pytest.mark.parametrize(
    ("state", "version", "live", "waiting", "first"),
    [
        ("Promoted", "2", "2", None, "tidemill predict images INPUT"),
        ("Rejected", "2", "1", None, "tidemill predict images INPUT"),
        ("Held", "2", "1", "2", 'tidemill approve images --why "..."'),
        ("Held", "1", None, "1", 'tidemill approve images --why "..."'),
        ("Rejected", "1", None, None, "tidemill card images@1"),
        ("Unchanged", "2", None, "1", "tidemill card images@2"),
        ("DryRun", None, None, None, "tidemill run images"),
    ],
)
def test_what_is_proposed_next_is_not_refused(
    state: str, version: str | None, live: str | None, waiting: str | None, first: str
) -> None:
    commands = then(ended("images", state, version), live, waiting)
    assert commands[0] == first and commands[-2:] == ["tidemill status", "tidemill up"]
    assert any("predict" in words for words in commands) == bool(live)


def test_the_status_keeps_short_columns_whole_and_wraps_the_prose_at_eighty_columns() -> None:
    long = (
        "f1_macro 0.6120 against 0.6020 of the baseline, better by 0.0130, "
        "at least -0.0050 was asked (not worse)"
    )
    rows = [
        {
            "application": "text_generation",
            "state": "Promoted",
            "because": long,
            "run_id": "0123456789abcdef0123456789abcdef",
            "at": "2026-11-23T02:31:07+00:00",
        }
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(table("last runs", rows, ("application", "state", "at", "run_id", "because")))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[2].startswith("text_generation  Promoted  2026-11-23 02:31  01234567  f1_macro")
    assert " ".join(part for line in lines[2:] for part in line[55:].split()) == long
    live = [
        {
            "application": "text_generation",
            "champion": "12",
            "challenger": "13",
            "since": "2026-11-23T02:31:07+00:00",
            "by": "gates",
            "why": long,
        }
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(
        table("live", live, ("application", "champion", "challenger", "since", "by", "why"))
    )
    assert isinstance(console.file, io.StringIO)
    assert (
        " ".join(
            part for line in console.file.getvalue().splitlines()[2:] for part in line[64:].split()
        )
        == long
    )


def test_a_long_name_of_who_decided_leaves_the_other_columns_whole() -> None:
    live = [
        {
            "application": "text_generation",
            "champion": "12",
            "challenger": "13",
            "since": "2026-11-23T02:31:07+00:00",
            "by": "somebody.with.a.long.name@institute.example",
            "why": "rolled back",
        }
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(
        table("live", live, ("application", "champion", "challenger", "since", "by", "why"))
    )
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "text_generation  12        13          2026-11-23 02:31" in shown
    assert "rolled" in shown and "…" not in shown


@pytest.mark.parametrize(
    ("figure", "words"),
    [(0.0130, "better by 0.0130"), (-0.2270, "worse by 0.2270"), (0.00001, "no difference")],
)
def test_a_difference_is_said_in_words(figure: float, words: str) -> None:
    assert by(figure) == words


def test_a_picture_is_asked_by_its_path_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    from tidemill import contract
    from tidemill.kit import pictures

    kind = contract.application("images").Input
    path = tmp_path / "seven.png"
    path.write_bytes(pictures.png(np.zeros((28, 28), dtype=np.uint8)))
    text = pictures.encoded(path.read_bytes())
    assert asking(kind, str(path)).image == asking(kind, f'{{"image": "{text}"}}').image == text
    with pytest.raises(
        Refused,
        match=r"image is read from a file, and .*eight\.png cannot be "
        r"\(No such file or directory\)",
    ):
        asking(kind, str(tmp_path / "eight.png"))
    with pytest.raises(Refused, match=r"cannot be \(File name too long\)"):
        asking(kind, text * 9)
    with pytest.raises(ValueError, match="not a whole picture"):
        asking(kind, __file__)
    assert asking(contract.application("languages").Input, str(path)).text == str(path)
