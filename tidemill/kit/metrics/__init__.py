"""Metrics of weighted rows, for many weightings at once: weights (R, n) give (R,).

One call answers a whole bootstrap: each row of `weights` is one resample. Each metric is two
halves: what is counted once per row, by a kept library where there is one, and how weighted sums of
that make the number. The tests hold each whole against its library.
"""

from tidemill.kit.metrics.classes import accuracy, macro_f1, mean

__all__ = ["accuracy", "macro_f1", "mean"]
