"""Pictures of a table's model: what answers cost by the threshold, and which columns matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tidemill.families.tables.scores import CHANCE, labels_of
from tidemill.runtime.escape import plot

LINE, MARK = "#31688e", "#c53030"
MOST_COLUMNS = 20


def drawn(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """The pictures that a score frame can be drawn as."""
    labels = labels_of(frame)
    costs = frame.attrs.get("costs")
    paths = []
    if costs and len(labels) == 2:
        paths.append(thresholds(frame, labels, costs, folder / "threshold.png"))
    if importance := frame.attrs.get("importance"):
        paths.append(columns(importance, folder / "importance.png"))
    return paths


def cost_by_threshold(
    frame: pd.DataFrame, labels: list[str], costs: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds of the positive label's probability, and the mean cost of a row at each."""
    chance = frame[f"{CHANCE}{labels[1]}"].to_numpy(float)
    positive = frame["is_positive"].to_numpy(bool)
    limits = np.linspace(0, 1, 201)
    flagged = chance[None] > limits[:, None]
    missed = (~flagged & positive[None]).mean(axis=1) * costs[1]
    alarms = (flagged & ~positive[None]).mean(axis=1) * costs[0]
    return limits, missed + alarms


def thresholds(frame: pd.DataFrame, labels: list[str], costs: list[float], path: Path) -> Path:
    """What a row costs by the threshold of the positive label, and where it is set."""
    from matplotlib.figure import Figure

    limits, cost = cost_by_threshold(frame, labels, costs)
    chosen = costs[0] / (costs[0] + costs[1])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(limits, cost, color=LINE)
    axes.axvline(chosen, color=MARK, linestyle="--", linewidth=1)
    axes.set_xlabel(f"{plot(labels[1])} is answered from this probability on")
    axes.set_ylabel("mean cost of a test row")
    axes.set_title(
        f"missing {plot(labels[1])} costs {costs[1]:g}, missing {plot(labels[0])} {costs[0]:g}: "
        f"the threshold is {chosen:.3f}",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    return path


def columns(importance: dict[str, float], path: Path) -> Path:
    """By how much the validation loss rises where a column is shuffled, the largest first."""
    from matplotlib.figure import Figure

    most = sorted(importance.items(), key=lambda pair: -pair[1])[:MOST_COLUMNS][::-1]
    figure = Figure(figsize=(7, 0.3 * len(most) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh([plot(name[:40]) for name, _ in most], [value for _, value in most], color=LINE)
    axes.set_xlabel("nats by which the validation log loss rises where the column is shuffled")
    axes.set_title(f"{len(most)} of {len(importance)} columns", fontsize=10)
    figure.savefig(path, dpi=110)
    return path
