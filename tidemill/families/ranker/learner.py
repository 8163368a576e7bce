"""A linear autoencoder over histories in closed form (EASE, Steck 2019), and its package.

It learns for each pair of items what having seen the one says of the other, and needs no user's
id, so a new user is served as a known one is. All items that a user did not rate count as
negatives, so none are drawn. Killed, it begins again: it takes seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from tidemill.contract import Fitted, Run
from tidemill.families.ranker.catalogue import Catalogue, KnownHistory, known_history, matrix
from tidemill.families.ranker.fields import RankerRecipe
from tidemill.families.ranker.rows import UserRow, catalogue_of, interactions, rows_of
from tidemill.families.ranker.scores import frame_of
from tidemill.learners.sklearn.learner import EXPORTED, OPSET, OneCallLearner
from tidemill.runtime import process
from tidemill.runtime.errors import Fault, Refused

GOLDEN_ROWS = 5
GOLDEN_ITEMS = 10  # the latest of a golden history
LEAST_USERS = 2


@dataclass(frozen=True)
class RankerData:
    """Who rated what, and the histories on which it is validated."""

    catalogue: Catalogue
    seen: sparse.csr_matrix  # (users, items)
    valid: list[UserRow]
    golden: list[list[str]]


class RankerLearner(OneCallLearner[RankerRecipe, RankerData]):
    """Weights (items, items) with which a history scores the catalogue."""

    weights: np.ndarray

    def load_data(self) -> RankerData:
        train, valid = rows_of(self.splits.folder, "train"), rows_of(self.splits.folder, "valid")
        if len(train) < LEAST_USERS:
            raise Refused(
                f"{len(train)} training user: what others rated is what a ranker learns; "
                f"give ratings of {LEAST_USERS} users at least"
            )
        catalogue = catalogue_of(train, self.recipe.least)  # of all rows, however few are learned
        if self.splits.rows:
            train = train[: self.splits.rows]
        known = set(catalogue.items)
        histories = [
            [name for name in row.question.history if name in known][-GOLDEN_ITEMS:]
            for row in train[:GOLDEN_ROWS]
        ]
        golden = [history for history in histories if history]
        return RankerData(catalogue, interactions(train, catalogue), valid, golden)

    def fit(self, run: Run) -> Fitted:
        data = self.data
        users = max(1, round(data.seen.shape[0] * run.share))
        self.weights = closed_form(data.seen[:users], self.recipe.l2)
        if not np.isfinite(self.weights).all():
            raise Fault(f"{run.what}: the weights hold NaN; raise model.l2")
        process.progress(users, users, "users", training=run.what)
        histories = self._histories()
        scores = matrix(data.catalogue, histories) @ self.weights
        frame = frame_of(data.valid, histories, scores, data.catalogue)
        return Fitted(
            {f"valid_{name}": float(frame[name].mean()) for name in ("ndcg", "recall")}, 1
        )

    def _histories(self) -> list[KnownHistory]:
        catalogue, weighting = self.data.catalogue, self.recipe.weighting()
        questions = [row.question for row in self.data.valid]
        return [known_history(catalogue, weighting, one.history, one.ratings) for one in questions]

    def state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.weights = state["weights"]

    def export(self, package: Path) -> float:
        import onnxruntime

        path = package / "model.onnx"
        path.write_bytes(graph(self.weights))
        data = self.data
        content = {
            "catalogue": data.catalogue.model_dump(mode="json"),
            "weighting": self.recipe.weighting().model_dump(mode="json"),
            "golden": data.golden,
        }
        (package / "tables.json").write_text(json.dumps(content, ensure_ascii=False) + "\n")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        x = matrix(data.catalogue, self._histories())
        worst = 0.0
        for count in (1, 2, EXPORTED):
            scores = session.run(["scores"], {"x": x[:count]})[0]
            worst = max(worst, float(np.abs(scores - x[:count] @ self.weights).max()))
        return worst


def closed_form(seen: sparse.csr_matrix, l2: float) -> np.ndarray:
    """The weights (items, items) float32 of least squares with a diagonal of zeros."""
    together = (seen.T @ seen).toarray().astype(float)
    together[np.diag_indices_from(together)] += l2
    inverse = np.linalg.inv(together)
    weights: np.ndarray = (-inverse / np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return weights


def graph(weights: np.ndarray) -> bytes:
    """The ONNX graph from a history's weights `x` (B, items) to `scores` (B, items)."""
    from onnx import TensorProto, helper, numpy_helper

    shape = [None, len(weights)]
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["scores"])],
        "ranker",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
