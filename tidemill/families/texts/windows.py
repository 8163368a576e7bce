"""Texts as windows of tokens: a long text is read in several, each as long as the encoder takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

CELLS = 4096  # tokens of one call of the encoder, padding included
OVERLAP = 8  # a window begins a share of 1/OVERLAP of its tokens before the last one ends


class Windows:
    """A tokenizer with the length of a window and the most windows of a text."""

    def __init__(self, tokenizer: Tokenizer, context: int, most: int) -> None:
        self.tokenizer, self.most = tokenizer, most
        self.tokenizer.enable_truncation(context, stride=context // OVERLAP)
        self.tokenizer.no_padding()

    @classmethod
    def of(cls, path: Path, context: int, most: int) -> Windows:
        return cls(Tokenizer.from_file(str(path)), context, most)

    def cut(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """The windows of all texts one after another, and which text is each one's (windows,).

        Every text has one window at least, with one token at least.
        """
        ids: list[list[int]] = []
        owners: list[int] = []
        for place, row in enumerate(self.tokenizer.encode_batch(list(texts))):
            parts = [row, *row.overflowing][: self.most]
            ids += [part.ids or [0] for part in parts]
            owners += [place] * len(parts)
        return ids, np.array(owners, dtype=np.int64)


def padded(windows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """ids and mask (N, T) int64; what the mask leaves out is read by nobody."""
    longest = max(map(len, windows))
    ids = np.zeros((len(windows), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, window in enumerate(windows):
        ids[place, : len(window)] = window
        mask[place, : len(window)] = 1
    return ids, mask


def calls(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Windows to be read together, those of like lengths: at most CELLS tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and lengths[order[stop]] * (stop + 1 - start) <= CELLS:
            stop += 1
        yield order[start:stop]
        start = stop
