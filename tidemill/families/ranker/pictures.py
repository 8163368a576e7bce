"""Pictures of a ranker's users: how well they are served by how much they saw, and its bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tidemill.families.ranker.examples import ACTIVITY, MOST_ACTIVE, activity

LINE, MARK = "#31688e", "#c53030"


def drawn(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """The pictures that a score frame can be drawn as."""
    return [by_activity(frame, folder / "activity.png"), bias(frame, folder / "popularity.png")]


def by_activity(frame: pd.DataFrame, path: Path) -> Path:
    """NDCG of users by how much they had seen, with two standard errors."""
    from matplotlib.figure import Figure

    groups = frame["seen"].map(activity)
    names = [name for _, name in ACTIVITY] + [MOST_ACTIVE]
    there = [name for name in names if (groups == name).any()]
    own = [frame.loc[groups == name, "ndcg"].to_numpy(float) for name in there]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    errors = [2 * float(one.std()) / np.sqrt(len(one)) for one in own]
    axes.bar(there, [float(one.mean()) for one in own], yerr=errors, color=LINE, capsize=4)
    axes.set_xticks(
        range(len(there)),
        [f"{name}\n{len(one):,} users" for name, one in zip(there, own, strict=True)],
    )
    axes.set_ylabel("NDCG@10")
    figure.savefig(path, dpi=110)
    return path


def bias(frame: pd.DataFrame, path: Path) -> Path:
    """How popular what each user is shown is, beside what they had seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    seen, shown = (frame[f"{name}_popularity"].to_numpy(float) for name in ("seen", "shown"))
    axes.scatter(seen, shown, s=8, alpha=0.5, color=LINE)
    most = float(max(seen.max(), shown.max()))
    axes.plot([0, most], [0, most], color=MARK, linestyle="--", linewidth=1)
    axes.set_xlabel("mean share of users who rated what this user had seen")
    axes.set_ylabel("the same of what this user is shown")
    figure.savefig(path, dpi=110)
    return path
