"""Pictures of a text classifier's answers."""

from pathlib import Path

import numpy as np
import pandas as pd

MOST = 30  # classes in the picture, the most frequent ones


def confusion(scored: pd.DataFrame, path: Path) -> Path:
    """Which class was taken for which: a row a class, its answers as shares of it."""
    from matplotlib.figure import Figure

    targets, answers = scored["target"].astype(str), scored["answer"].astype(str)
    names = sorted(targets.value_counts().index[:MOST])
    counts = pd.crosstab(targets, answers).reindex(index=names, columns=names, fill_value=0)
    rows = targets.value_counts().reindex(names).to_numpy()
    shares = counts.to_numpy() / rows[:, None]
    size = max(4.0, 1.5 + 0.6 * len(names))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(np.arange(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(
        np.arange(len(names)), [f"{n} ({c:,})" for n, c in zip(names, rows, strict=True)]
    )
    for row, column in np.ndindex(shares.shape):
        if len(names) <= 10:
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", color=colour)
    axes.set_xlabel("answer")
    axes.set_ylabel("class (test rows)")
    figure.savefig(path, dpi=110)
    return path
