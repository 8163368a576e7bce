"""Pictures of a verdict: intervals beside their bounds, calibration, and latency."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.judge import calibration
from tidemill.records.receipts import Finding
from tidemill.runtime.escape import plot

COLOURS = {"pass": "#2f855a", "fail": "#c53030", "unclear": "#b7791f", "reported": "#718096"}
INK, LINE = "#2d3748", "#31688e"


def forest(findings: list[Finding], path: Path) -> Path | None:
    """Every finding that has an interval, a line each: figure, interval and bound.

    One panel a gate, since units differ.
    """
    gates: dict[str, list[Finding]] = {}
    for item in findings:
        if item.low is not None and item.high is not None:
            gates.setdefault(item.gate, []).append(item)
    if not gates:
        return None
    figure = Figure(
        figsize=(8, 0.7 * len(gates) + 0.32 * sum(map(len, gates.values())) + 0.6),
        layout="constrained",
    )
    panels = figure.subplots(
        len(gates), 1, squeeze=False, height_ratios=[len(items) + 0.8 for items in gates.values()]
    )[:, 0]
    for axes, (gate, items) in zip(panels, gates.items(), strict=True):
        _panel(axes, gate, items)
    figure.savefig(path, dpi=110)
    return path


def _panel(axes: Any, gate: str, items: list[Finding]) -> None:
    for place, item in enumerate(items[::-1]):
        colour = COLOURS.get(item.answer, INK)
        axes.plot([item.low, item.high], [place, place], color=colour, linewidth=2)
        axes.plot([item.figure], [place], "o", color=colour, markersize=5)
    bound = items[0].bound
    title = gate
    if bound is not None:
        axes.axvline(bound, color="#c53030", linestyle="--", linewidth=1)
        title = f"{gate}: {items[0].metric}, bound {bound:g}"
    names = [plot(item.slice.split("=", 1)[-1]) for item in items[::-1]]
    axes.set_yticks(range(len(items)), names, fontsize=8)
    axes.set_ylim(-0.6, len(items) - 0.4)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def reliability(frame: pd.DataFrame, right: np.ndarray, path: Path) -> Path:
    """Confidence against the share that was right, in bins of equally many rows."""
    points = calibration.curve(frame["confidence"].to_numpy(float), right)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#a0aec0", linewidth=1)
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", color=LINE)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    error = calibration.expected_calibration_error(frame["confidence"].to_numpy(float), right)
    axes.set_title(
        f"{len(frame):,} test rows in {len(points)} bins; calibration error {error:.3f}",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    return path


def latency(times: pd.DataFrame, path: Path) -> Path:
    """One request's time, of each model that was measured in turn."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    most = float(times["ms"].quantile(0.99))
    edges = np.linspace(0, most, 40).tolist()
    for (model, part), colour in zip(times.groupby("model"), (LINE, "#b7791f"), strict=False):
        axes.hist(
            part["ms"].clip(upper=most),
            bins=edges,
            alpha=0.6,
            color=colour,
            label=f"{model}: p50 {part['ms'].median():.2f}, p95 {part['ms'].quantile(0.95):.2f} ms",
        )
    axes.set_xlabel("ms of one request (the slowest hundredth at the right edge)")
    axes.set_ylabel("requests")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def draw(
    folder: Path,
    findings: list[Finding],
    candidate: pd.DataFrame,
    right: np.ndarray | None,
    times: pd.DataFrame | None,
) -> None:
    """All that can be drawn, into a folder."""
    forest(findings, folder / "gates.png")
    if right is not None and "confidence" in candidate:
        reliability(candidate, right, folder / "reliability.png")
    if times is not None and len(times):
        latency(times, folder / "latency.png")
