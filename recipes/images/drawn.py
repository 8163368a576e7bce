"""The run's pictures: which labels are taken for which, and the pictures that were misread most surely."""

from pathlib import Path

import numpy as np
import pandas as pd

from recipes import pictures

SHOWN = 40


def confusion(scored: pd.DataFrame, path: Path) -> Path:
    from matplotlib.figure import Figure

    table = pd.crosstab(scored["target"].astype(str), scored["answer"].astype(str), dropna=False)
    names = sorted({*table.index, *table.columns})
    counts = table.reindex(index=names, columns=names, fill_value=0).to_numpy()
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)), cmap="Blues", vmin=0, vmax=0.2)
    for row, col in np.argwhere(counts > 0):
        axes.text(col, row, counts[row, col], ha="center", va="center", fontsize=8, color="white" if row == col else "black")
    axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("target")
    axes.set_title(f"{counts.sum() - np.trace(counts):,} of {counts.sum():,} wrong", fontsize=10)
    figure.savefig(path, dpi=110)
    return path


def misread(scored: pd.DataFrame, path: Path) -> Path:
    from matplotlib.figure import Figure

    wrong = scored[scored["picture"] != ""].sort_values("loss", ascending=False, kind="stable").head(SHOWN)
    columns = 8
    figure = Figure(figsize=(9, 1.35 * max(1, -(-len(wrong) // columns)) + 0.4), layout="constrained")
    figure.suptitle(f"the {len(wrong)} misread with the greatest loss: target > answer" if len(wrong) else "none was misread", fontsize=10)
    grid = figure.subplots(max(1, -(-len(wrong) // columns)), columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, target, answer in zip(grid, wrong["picture"], wrong["target"], wrong["answer"], strict=False):
        axes.imshow(np.asarray(pictures.grey(pictures.opened(pictures.decoded(image)))), cmap="gray")
        axes.set_title(f"{target} > {answer}", fontsize=8)
    figure.savefig(path, dpi=110)
    return path
