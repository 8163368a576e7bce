"""Documents packed into blocks of one length, none of which sees another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def packed(documents: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Token numbers of documents, END at both ends, one after another in blocks.

    Gives arrays (blocks, length): `ids`, `targets` (the token after each; -1 where none is asked), `places`
    (counted from where the document, or its piece in this block, begins) and `documents` (whose token it is).
    A document cut at a block's end goes on in the next with its places counted anew. Of the last block only
    the used part is asked.
    """
    ids = np.concatenate([item[:-1] for item in documents])
    targets = np.concatenate([item[1:] for item in documents])
    owner = np.repeat(np.arange(len(documents)), [len(item) - 1 for item in documents])
    blocks = -(-len(ids) // length)
    spare = blocks * length - len(ids)
    ids, targets, owner = (np.concatenate([part, np.full(spare, fill)]).reshape(blocks, length) for part, fill in ((ids, 0), (targets, -1), (owner, -1)))
    fresh = np.ones(ids.shape, dtype=bool)
    fresh[:, 1:] = owner[:, 1:] != owner[:, :-1]
    column = np.broadcast_to(np.arange(length), ids.shape)
    places = column - np.maximum.accumulate(np.where(fresh, column, 0), axis=1)
    return {"ids": ids.astype(np.int64), "targets": targets.astype(np.int64), "places": places, "documents": owner}
