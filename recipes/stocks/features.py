"""Days of prices to numbers: the same in training, in scoring and in the server.

Shapes: B windows, T days less one, 4 prices, 3 quantiles.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np

TARGETS = ("open", "high", "low", "close")
QUANTILES = (0.1, 0.5, 0.9)
LEAST = 8  # days a series must have
# September 2001 closed the exchange from Tuesday to Monday, six days; more is a gap.
MOST_GAP_DAYS = 7
FLOOR = 1e-4  # of a day's range, in logarithms, so that a flat series can be divided by it
# A day's range of a large company, in logarithms; the volatility is given relative to it.
TYPICAL = 0.025
FEATURES = 7


def fault(
    table: np.ndarray, dates: Sequence[date] | None, closes: np.ndarray | None = None
) -> str | None:
    """What is wrong with days (n, 5) of open, high, low, close and volume, in one line.

    None where nothing is.
    """
    columns = list(zip((*TARGETS, "volume"), table.T, strict=True))
    if closes is not None:
        columns.append(("adjusted", closes))
    for name, column in columns:
        if wrong := _column_fault(name, column):
            return wrong
    return _range_fault(table) or (None if dates is None else _dates_fault(dates))


def _column_fault(name: str, column: np.ndarray) -> str | None:
    """A value that is not finite, a price of 0 or less, a negative volume."""
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        return f"{name} of row {wrong[0] + 1} is {column[wrong[0]]}; every value must be a number"
    wrong = np.flatnonzero(column < 0 if name == "volume" else column <= 0)
    if len(wrong):
        rule = "volume cannot be negative" if name == "volume" else "price must be above 0"
        return f"{name} of row {wrong[0] + 1} is {column[wrong[0]]:g}; a {rule}"
    return None


def _range_fault(table: np.ndarray) -> str | None:
    """An open or a close outside its day's high and low."""
    high, low = table[:, 1], table[:, 2]
    slack = 1 + 1e-6
    wrong = np.flatnonzero(
        (high * slack < table[:, [0, 2, 3]].max(axis=1))
        | (low > table[:, [0, 1, 3]].min(axis=1) * slack)
    )
    if not len(wrong):
        return None
    row = wrong[0]
    return (
        f"row {row + 1} has high {high[row]:g} and low {low[row]:g}, and open "
        f"{table[row, 0]:g} or close {table[row, 3]:g} lies outside"
    )


def _dates_fault(dates: Sequence[date]) -> str | None:
    """Days that do not rise, or a gap between two."""
    for number, (one, two) in enumerate(pairwise(dates), 2):
        if two <= one:
            return f"row {number} is of {two}, after {one}; the days must rise, oldest first"
        if (two - one).days > MOST_GAP_DAYS:
            return (
                f"{(two - one).days} days lie between {one} and {two}; a gap of more than "
                f"{MOST_GAP_DAYS} is not answered over"
            )
    return None


def features(days: Sequence[np.ndarray], window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (B, window - 1, 7), the window's own quantiles (B, 4, 3), and their scale (B,).

    Both were divided by the scale. A step is a day: its four prices in logarithms against the close
    before it, its volume and its range against the window's, and the window's range. Only the days
    that are given are looked at.
    """
    count = len(days)
    steps = np.zeros((count, window - 1, FEATURES), dtype=np.float32)
    start = np.zeros((count, len(TARGETS), len(QUANTILES)), dtype=np.float32)
    scale = np.ones(count)
    lengths = np.array([min(len(table), window) for table in days])
    for size in np.unique(lengths):
        mine = np.flatnonzero(lengths == size)
        block = np.stack([days[int(at)][-size:] for at in mine])  # (b, size, 5)
        logs = np.log(block[:, :, :4])
        moves = logs[:, 1:] - logs[:, :-1, 3:]  # against the close before
        ranges = logs[:, 1:, 1] - logs[:, 1:, 2]
        spread = np.maximum(
            0.5 * (ranges.mean(axis=1) + np.abs(moves[:, :, 3]).mean(axis=1)), FLOOR
        )
        volume = np.log1p(block[:, 1:, 4])
        told = np.concatenate(
            [
                moves / spread[:, None, None],
                (volume - volume.mean(axis=1, keepdims=True))[:, :, None],
                (ranges / spread[:, None])[:, :, None],
                np.broadcast_to(np.log(spread / TYPICAL)[:, None, None], (*ranges.shape, 1)),
            ],
            axis=2,
        )
        steps[mine, window - size :] = told.clip(
            -10, 10
        )  # what is missing before stays a day without movement
        start[mine] = np.moveaxis(
            np.quantile(moves / spread[:, None, None], QUANTILES, axis=1), 0, 2
        ).clip(-10, 10)
        scale[mine] = spread
    return steps, start, scale


def adjusted(table: np.ndarray, closes: np.ndarray) -> np.ndarray:
    """(days, 5) with prices times adjusted / close, and volume divided by it.

    So a split is no fall.
    """
    factor = (closes / table[:, 3])[:, None]
    return np.hstack([table[:, :4] * factor, table[:, 4:] / factor])
