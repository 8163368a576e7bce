"""What a person looks at: the bands beside what came, and the skill of each price."""

from pathlib import Path

import numpy as np
import pandas as pd

from recipes.stocks.features import QUANTILES, TARGETS

DAYS = 90


def bands(frame: pd.DataFrame, path: Path) -> Path:
    """The last days of each series.

    Tomorrow's high and low, and the bands they were promised in.
    """
    from matplotlib.figure import Figure

    names = sorted(frame["series"].unique())[:6]
    figure = Figure(figsize=(9, 2.2 * len(names) + 0.6), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(len(names), 1)), names, strict=True):
        part = frame[frame["series"] == name].sort_values("day").tail(DAYS)
        at = np.arange(len(part))
        for target, colour in (("high", "tab:green"), ("low", "tab:red")):
            axes.fill_between(
                at,
                100 * part[f"{target}_{QUANTILES[0]}"],
                100 * part[f"{target}_{QUANTILES[-1]}"],
                alpha=0.25,
                color=colour,
                linewidth=0,
                label=f"{target}: band of 80 %",
            )
            axes.plot(
                at,
                100 * part[f"true_{target}"],
                ".",
                markersize=3,
                color=colour,
                label=f"{target} as it came",
            )
        axes.axhline(0, color="grey", linewidth=0.6)
        shown = at[:: max(1, len(at) // 6)]
        axes.set_xticks(shown, [part["day"].iloc[place] for place in shown], fontsize=7)
        axes.set_ylabel("% of the last close", fontsize=8)
        axes.set_title(name, loc="left", fontsize=9)
    axes.legend(fontsize=7, ncols=4, loc="upper left")
    figure.savefig(path, dpi=110)
    return path


def skills(frame: pd.DataFrame, path: Path) -> Path:
    """The skill of each price in each series.

    How much smaller the error is than the last close's.
    """
    from matplotlib.figure import Figure

    names = sorted(frame["series"].unique())
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        part = frame[frame["series"] == name]
        heights = [
            1 - part[f"error_{target}"].sum() / max(part[f"naive_{target}"].sum(), 1e-12)
            for target in TARGETS
        ]
        axes.bar(np.arange(len(TARGETS)) + number * width, heights, width, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(
        np.arange(len(TARGETS)) + 0.4 - width / 2, [f"tomorrow's {target}" for target in TARGETS]
    )
    axes.set_ylabel("skill: 0 is the last close")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path
