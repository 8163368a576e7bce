"""A datasheet's pictures: who is in it, how long the texts are, and where rows were lost."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tasks.datasheet.counts import SPLITS, Facts, shares
from tidemill.runtime.escape import plot

COLOURS = {"train": "#31688e", "valid": "#35b779", "test": "#fde725"}
LOST, KEPT = "#b5493a", "#31688e"


def draw(facts: Facts, folder: Path) -> list[str]:
    """The pictures' names, in the order they are shown."""
    named = [
        ("rows-by-language", "language", "rows by language, the most frequent first"),
        ("rows-by-source", "source", "rows by source"),
        ("rows-by-licence", "licence", "rows by licence"),
    ]
    found = []
    for name, column, title in named:
        table = shares(facts.examples, column, 30)
        if len(table) > 1 or (table and table[0][0] != "not said"):
            bars(table, title, folder / f"{name}.png")
            found.append(f"{name}.png")
    if facts.examples["chars"].max() > 0:
        lengths(facts.examples, folder / "lengths.png")
        found.append("lengths.png")
    if len(facts.signals) > 20:
        qualities(facts.signals, folder / "quality.png")
        found.append("quality.png")
    waterfall(facts.steps, folder / "losses.png")
    return [*found, "losses.png"]


def bars(table: list[tuple[str, dict[str, int]]], title: str, path: Path) -> None:
    figure = Figure(figsize=(7, max(1.6, 0.22 * len(table) + 0.9)), layout="constrained")
    axes = figure.subplots()
    names, left = [plot(name[:40]) for name, _ in table][::-1], np.zeros(len(table))
    for split in SPLITS:
        values = np.array([rows[split] for _, rows in table][::-1])
        axes.barh(
            names,
            values,
            left=left,
            color=COLOURS[split],
            label=split,
            edgecolor="#444",
            linewidth=0.3,
        )
        left += values
    axes.set_xlabel("rows")
    axes.margins(y=0.01)
    axes.set_title(title, fontsize=10)
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def lengths(examples: Any, path: Path) -> None:
    """How long the questions are, by split, on a scale of powers of two."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    edges = 2.0 ** np.arange(0, np.log2(max(2, examples["chars"].max())) + 1.5, 0.5)
    for split in SPLITS:
        chars = examples.loc[examples["split"] == split, "chars"]
        if chars.empty:
            continue  # it has no share to show
        axes.hist(
            chars.clip(lower=1),
            bins=list(edges),
            histtype="step",
            color=COLOURS[split] if split != "test" else "#c7a500",
            label=split,
            density=True,
        )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("characters of a question")
    axes.set_ylabel("share")
    axes.set_title("how long the questions are", fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def qualities(signals: Any, path: Path) -> None:
    """How the quality signals of the longer texts are spread, one small picture each."""
    names = [
        name
        for name in signals.columns
        if signals[name].dtype.kind in "if" and signals[name].nunique() > 2
    ][:12]
    figure = Figure(figsize=(9, 1.9 * -(-len(names) // 4)), layout="constrained")
    for axes, name in zip(
        np.atleast_1d(figure.subplots(-(-len(names) // 4), 4, squeeze=False)).ravel(),
        [*names, *[""] * (-len(names) % 4)],
        strict=True,
    ):
        if not name:
            axes.axis("off")
            continue
        values = signals[name].dropna()
        axes.hist(values.clip(upper=values.quantile(0.995)), bins=30, color=KEPT)
        axes.set_title(plot(name), fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_yticks([])
    figure.suptitle(f"signals of {len(signals):,} texts of 200 characters or more", fontsize=10)
    figure.savefig(path, dpi=110)


def waterfall(steps: list[tuple[str, int, dict[str, int]]], path: Path) -> None:
    """What each step kept, and what it dropped for which reason."""
    rows: list[tuple[str, int, str]] = []
    for step, kept, lost in steps:
        rows += [(f"{step}: {why}"[:60], count, LOST) for why, count in list(lost.items())[:8]]
        if len(lost) > 8:
            rows.append(
                (f"{step}: {len(lost) - 8} other reasons", sum(list(lost.values())[8:]), LOST)
            )
        rows.append((f"left after {step}", kept, KEPT))
    figure = Figure(figsize=(7, 0.24 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [plot(name) for name, _, _ in rows][::-1],
        [count for _, count, _ in rows][::-1],
        color=[colour for _, _, colour in rows][::-1],
    )
    for place, (_, count, _) in enumerate(rows[::-1]):
        axes.annotate(
            f"{count:,}",
            (count, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(0, 5 * max([count for _, count, _ in rows], default=1))
    axes.margins(y=0.01)
    axes.set_title("what was kept (blue) and what was dropped, and why (red)", fontsize=10)
    axes.tick_params(axis="y", labelsize=7)
    figure.savefig(path, dpi=110)
