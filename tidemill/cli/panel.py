"""What a person sees in the terminal: the steps while they work, and the night in one panel."""

import threading
import time
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tidemill import contract
from tidemill.cli.arguments import add_row
from tidemill.engines.prefect.progress import resumed, which
from tidemill.records.receipts import DataHalf, End, Judged, Promoted, Simpler, Swept
from tidemill.records.summary import summary
from tidemill.runtime.escape import line, terminal
from tidemill.runtime.events import (
    Event,
    StepBegan,
    StepCost,
    StepEnded,
    StepFailed,
    StepNote,
    StepProgress,
)

MARKS = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "unclear": ("?", "yellow"),
    "reported": ("·", "dim"),
    "not applicable": ("–", "dim"),
}
REMIND_S = 10.0
COLOURS = {
    "Promoted": "green",
    "Held": "yellow",
    "Rejected": "red",
    "Unchanged": "cyan",
    "DryRun": "cyan",
}


class NightPanel:
    """Listens to the steps of one run.

    Live where there is a terminal, a line a step where there is none.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.began = time.monotonic()
        self.rows: dict[str, TaskID] = {}
        self.costs: dict[str, StepCost] = {}
        self.walls: dict[str, float] = {}
        self.end: End | None = None
        self.judged: Judged | None = None
        self.promoted: Promoted | None = None
        self.data: DataHalf | None = None
        self.best_trial = ""
        self.notes: list[str] = []
        self.shown: dict[str, float] = {}  # a training's last progress line: when
        self.working: dict[str, float] = {}  # steps that have begun and not ended: since when
        self.spoke = self.began
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.live = (
            Progress(
                SpinnerColumn(finished_text=""),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[far]}"),
                TimeElapsedColumn(),
                console=console,
                transient=False,
            )
            if console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> "NightPanel":
        if self.live:
            self.live.start()
        elif not self.quiet:
            threading.Thread(target=self.remind, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        if self.live:
            self.live.stop()

    def remind(self) -> None:
        """Where no line came for a while, say what is at work."""
        while not self.over.wait(1):
            with self.lock:
                now = time.monotonic()
                if self.working and now - self.spoke > REMIND_S:
                    steps = (f"{step} ({now - at:.0f} s)" for step, at in self.working.items())
                    self.line(f"at work: {', '.join(steps)}")

    def __call__(self, step: str, event: Event) -> None:
        with self.lock:
            self.hear(step, event)

    def hear(self, step: str, event: Event) -> None:
        if isinstance(event, End):
            self.end = event
        elif isinstance(event, Judged):
            self.judged = event
        elif isinstance(event, Promoted):
            self.promoted = event
        elif isinstance(event, DataHalf):
            self.data = event
        elif isinstance(event, StepCost):
            self.costs[step] = event
        elif isinstance(event, StepNote):
            self.notes.append(event.words)
        elif isinstance(event, StepBegan):
            self.working[step] = time.monotonic()
            if self.live:
                self.rows[step] = self.live.add_task(terminal(step), total=None, far="")
        elif isinstance(event, StepProgress):
            self.far(step, event)
        elif isinstance(event, StepEnded):
            words = summary(event.receipt)
            if isinstance(event.receipt, Swept) and event.receipt.params:
                self.best_trial = f"{words}; {parameters(event.receipt)}"
            self.over_with(step, "[green]✓[/]", words, event.wall_s)
        elif isinstance(event, StepFailed):
            self.over_with(step, "[red]✗[/]", event.why, event.wall_s)

    def over_with(self, step: str, mark: str, words: str, wall_s: float) -> None:
        """A step that ended, or failed."""
        self.working.pop(step, None)
        self.walls[step] = self.walls.get(step, 0.0) + wall_s
        if self.live and step in self.rows:
            self.live.update(
                self.rows[step],
                total=1,
                completed=1,
                far=terminal(words[:70]),
                description=f"{mark} {terminal(step)}",
            )
            self.live.stop_task(self.rows[step])
        elif not self.quiet:
            self.line(f"{step}: {words} ({wall_s:.1f} s)")

    def far(self, step: str, event: StepProgress) -> None:
        total, training = event.total, which(step, event)
        if (words := resumed(step, event)) and not self.quiet:
            self.line(words)
        more = ", ".join(
            f"{key} {value}" for key, value in event.figures.items() if value not in (0, None)
        )
        words = (
            f"{training}{event.done:,.0f}{f' of {total:,.0f}' if total else ''} {event.unit}"
            f"{f', {more}' if more else ''}"
        )
        if self.live:
            if step not in self.rows:
                return
            self.live.update(
                self.rows[step], total=total, completed=event.done, far=terminal(words[:70])
            )
        elif not self.quiet and time.monotonic() - self.shown.get(step + training, self.began) > 10:
            self.shown[step + training] = time.monotonic()
            self.line(f"{step}: {words}")

    def line(self, words: str) -> None:
        self.console.print(
            f"{time.monotonic() - self.began:6.1f} s  {line(words)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        self.spoke = time.monotonic()

    def panel(self, live: str | None = None, waiting: str | None = None) -> Panel | Group:
        """The whole night, once it has ended.

        `live` and `waiting` are versions of the application, if there are any.
        """
        end, judged = self.end, self.judged
        assert end is not None
        state = end.state
        parts: list[Any] = [
            Text.assemble((f"{state}  ", f"bold {COLOURS[state]}"), line(end.because))
        ]
        if self.data:
            parts += [Text(), stages(self.data)]
        if judged:
            parts += [Text(), gates(judged), Text(), models(judged)]
        parts += [Text(), self.facts(end)]
        if self.notes:
            parts += [Text(f"note: {line(note)}", style="yellow") for note in self.notes]
        parts += [
            Text(),
            Text.assemble(
                "next: ",
                Text("   ").join(
                    [
                        Text(words, style="bold")
                        for words in then(
                            end, live, None if judged and judged.verdict == "REJECT" else waiting
                        )
                    ]
                ),
            ),
        ]
        body = Group(*parts)
        if not self.console.is_terminal:
            return Group(Text(f"\n{end.application}: {state}"), body)
        return Panel(body, title=end.application, border_style=COLOURS[state], padding=(1, 2))

    def facts(self, end: End) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        if self.data:
            snapshot = self.data.snapshot
            rows = ", ".join(f"{count:,} {part}" for part, count in snapshot.rows.items())
            add_row(table, "snapshot", f"{', '.join(snapshot.names)} ({rows})")
            if snapshot.changed:
                add_row(
                    table,
                    "since the last",
                    ", ".join(f"{count:,} {what}" for what, count in snapshot.changed.items()),
                )
        if self.judged and self.judged.simpler:
            add_row(table, "best simpler", beside(self.judged.simpler))
        if self.best_trial:
            add_row(table, "best trial", self.best_trial)
        if end.version:
            is_live = self.promoted is not None and self.promoted.moved
            add_row(
                table,
                "version",
                f"{end.application} {end.version}" + (", now @champion" if is_live else ""),
            )
        steps = sorted(self.walls.items(), key=lambda item: -item[1])
        add_row(
            table,
            "time",
            f"{time.monotonic() - self.began:.0f} s: "
            + ", ".join(f"{shortened(name)} {wall:.0f}" for name, wall in steps if wall >= 0.5),
        )
        if self.costs:
            worst = max(self.costs.items(), key=lambda item: item[1].peak_mb)
            add_row(table, "most memory", f"{worst[1].peak_mb:,.0f} MB ({worst[0]})")
        return table


def beside(simpler: Simpler) -> str:
    """The best simpler model and the difference to it."""
    ends = "" if simpler.low is None else f" [{simpler.low:+.4f}, {simpler.high:+.4f}]"
    return f"{simpler.model} {simpler.figure:.4f}; the candidate {simpler.gain:+.4f}{ends}"


def parameters(swept: Swept) -> str:
    """What the best trial was trained with."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in swept.params.items()
    )


def shortened(step: str) -> str:
    """A step's name without its application; those of the sources keep the source's."""
    words = step.split(" ")
    return " ".join(words[:2] if step.startswith(("clean", "collect")) else words[:1])


def then(end: End, live: str | None, waiting: str | None) -> list[str]:
    """What a person may do next: commands that are not refused as things stand."""
    name, version = end.application, end.version
    commands = []
    held = version is not None and version == waiting
    if held:
        commands.append(f'tidemill approve {name} --why "..."')
    if live:
        commands.append(f"tidemill predict {name} {question(name)}")
    elif end.state == "DryRun":
        commands.append(f"tidemill run {name}")
    elif version and not held:
        commands.append(f"tidemill card {name}@{version}")
    return [*commands, "tidemill status", "tidemill up"]


def question(name: str) -> str:
    """An input of the application's that can be typed: its first field's example."""
    if name not in contract.names():
        return "INPUT"
    first = next(iter(contract.application(name).Input.model_fields.values()))
    example = next(iter(first.examples or ()), None)
    return f'"{example}"' if isinstance(example, str) else "INPUT"


def stages(data: DataHalf) -> Table:
    """What came in of each source, and what each stage kept and dropped."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("data", "in", "kept", "dropped", "why"):
        table.add_column(
            name,
            justify="right" if name in ("in", "kept", "dropped") else "left",
            overflow="fold",
        )
    for item in data.collected:
        why = ", ".join(
            f"{getattr(item, key)} {key}"
            for key in ("fetched", "unchanged", "gone", "refused", "failed")
            if getattr(item, key)
        )
        add_row(table, f"collect {item.source}", "", f"{item.records:,}", "", why)
    for stage in data.stages:
        lost = sum(stage.dropped.values())
        why = "; ".join(
            f"{count:,} {reason}"
            for reason, count in sorted(stage.dropped.items(), key=lambda pair: -pair[1])[:3]
        )
        add_row(
            table,
            f"{stage.stage} {stage.name}",
            f"{stage.rows + lost:,}",
            f"{stage.rows:,}",
            f"{lost:,}" if lost else "",
            why,
        )
    return table


def gates(judged: Judged) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "gate", "of", "figure", "bound", "interval"):
        table.add_column(
            name, justify="right" if name in ("figure", "bound") else "left", no_wrap=name != "gate"
        )
    for item in judged.findings:
        mark, style = MARKS[item.answer]
        interval = (
            f"[{item.low:.4f}, {item.high:.4f}]"
            if item.low is not None
            else ("" if item.answer != "not applicable" else item.reason)
        )
        figure = "" if item.figure is None else f"{item.figure:.4g}"
        add_row(
            table,
            Text(mark, style=style),
            item.gate,
            item.slice.split("=")[-1],
            figure,
            "" if item.bound is None else f"{item.bound:g}",
            interval,
        )
    return table


def models(judged: Judged) -> Table:
    """Every model's figure on the whole and in each domain."""
    rows = [
        row
        for row in judged.table
        if row["slice"] == "all" or str(row["slice"]).startswith("domain=")
    ]
    names = [
        name
        for name in dict.fromkeys(key for row in rows for key in row)
        if name not in ("slice", "rows", "units", "low", "high", "trivial")
        and not name.endswith(" rows")
    ]
    metric = next(
        (item.metric for item in judged.findings if item.kind in ("no_worse", "limit")), ""
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(metric)
    table.add_column("rows", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        cells = []
        for name in names:
            figure = row.get(name)
            part = row.get(f"{name} rows")
            cells.append(
                "" if figure is None else f"{figure:.3f}" + (f" on {part:,}" if part else "")
            )
        add_row(table, str(row["slice"]).split("=")[-1], f"{row['rows']:,}", *cells)
    return table
