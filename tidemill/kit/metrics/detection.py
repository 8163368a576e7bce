"""Detection: boxes against boxes. A row is one picture. Weights (R, n) give (R,)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # COCO's points of interpolation


def overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, (a, b), of boxes (a, 4) and (b, 4).

    A box is given as left, top, right, bottom.
    """
    low, high = (
        np.maximum(ones[:, None, :2], others[None, :, :2]),
        np.minimum(ones[:, None, 2:], others[None, :, 2:]),
    )
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = [np.clip(part[:, 2:] - part[:, :2], 0, None).prod(axis=1) for part in (ones, others)]
    union = sizes[0][:, None] + sizes[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(frozen=True)
class RankedBoxes:
    """Boxes of one class at one overlap, best first over all pictures.

    Which were right (d,), whose picture (d,), and how many there were to find (n,).
    """

    right: np.ndarray
    row: np.ndarray
    wanted: np.ndarray


def match(
    answers: Sequence[tuple[np.ndarray, np.ndarray]], targets: Sequence[np.ndarray], least: float
) -> RankedBoxes:
    """Match answers (boxes and scores, a pair a picture) with targets.

    The surest first, each target once, at an overlap of `least` or more (COCO's rule).
    """
    right, row, score = [], [], []
    for number, ((boxes, scores), wanted) in enumerate(zip(answers, targets, strict=True)):
        free = np.ones(len(wanted), dtype=bool)
        shared = overlap(boxes, wanted)
        for place in np.argsort(-scores, kind="stable"):
            open_ = np.where(free, shared[place], -1.0) if len(wanted) else np.array([])
            best = int(open_.argmax()) if len(open_) else -1
            hit = best >= 0 and open_[best] >= least
            if hit:
                free[best] = False
            right.append(hit)
            row.append(number)
            score.append(scores[place])
    order = np.argsort(-np.array(score, dtype=float), kind="stable")
    return RankedBoxes(
        np.array(right, dtype=float)[order],
        np.array(row, dtype=int)[order],
        np.array([len(item) for item in targets], dtype=float),
    )


def average_precision(found: RankedBoxes, weights: np.ndarray) -> np.ndarray:
    """Average precision, 0 to 1, higher is better.

    Interpolated at 101 points as COCO's evaluation does; NaN where a resample has nothing to find.

    A picture drawn twice counts its boxes twice, one after the other.
    """
    wanted = weights @ found.wanted
    each = weights[:, found.row]
    hits, seen = np.cumsum(each * found.right, axis=1), np.cumsum(each, axis=1)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    recall = np.divide(hits, wanted[:, None], out=np.zeros_like(hits), where=wanted[:, None] > 0)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[
        :, ::-1
    ]  # the best that any higher recall affords
    scores = np.zeros(len(weights))
    for number in range(len(weights)):
        at = np.searchsorted(recall[number], RECALLS, side="left")
        scores[number] = (
            np.where(
                at < len(found.right), highest[number, np.minimum(at, len(found.right) - 1)], 0.0
            ).mean()
            if len(found.right)
            else 0.0
        )
    return np.where(wanted > 0, scores, np.nan)
