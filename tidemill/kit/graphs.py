"""The ONNX graphs of a package: how they are opened, and what they are asked and answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.contract import Application, Graph, Predictor, golden

Arrays = dict[str, np.ndarray]


def opened(package: Path, threads: int = 2) -> dict[str, Graph]:
    """Every graph of a package in ONNX Runtime, by its name: NAME.onnx."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # A thread that waits by spinning takes as much processor as the answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        path.stem: onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        for path in sorted(package.glob("*.onnx"))
    }


@dataclass(frozen=True)
class Call:
    """One call of a graph."""

    graph: str
    inputs: Arrays
    outputs: Arrays

    @property
    def rows(self) -> int:
        """The fewest entries of any input or output's first axis."""
        arrays = [*self.inputs.values(), *self.outputs.values()]
        return min((len(array) for array in arrays if array.ndim), default=0)


class _Recorder:
    def __init__(self, name: str, graph: Any, calls: list[Call]) -> None:
        self._name, self._graph, self._calls = name, graph, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def run(self, names: Any, inputs: Arrays, *more: Any) -> Any:
        outputs = self._graph.run(names, inputs, *more)
        titles = names or [one.name for one in self._graph.get_outputs()]
        self._calls.append(Call(self._name, inputs, dict(zip(titles, outputs, strict=True))))
        return outputs


@contextmanager
def recording(predictor: Predictor[Any, Any]) -> Iterator[list[Call]]:
    """Note every call of a predictor's graphs."""
    calls: list[Call] = []
    graphs = dict(predictor.graphs)
    for name, graph in graphs.items():
        predictor.graphs[name] = _Recorder(name, graph, calls)
    try:
        yield calls
    finally:
        predictor.graphs.update(graphs)


def examples(
    application: Application[Any, Any, Any], predictor: Predictor[Any, Any]
) -> dict[str, Call]:
    """What each graph is asked and answers when golden questions are put: the call of most rows.

    Two rows or more, where the golden questions are as many: one row would claim a fixed batch.
    """
    questions = golden(application, predictor)
    with recording(predictor) as calls:
        predictor.predict(questions[:2])
        if len({call.graph for call in calls if call.rows > 1}) < len(predictor.graphs):
            predictor.predict(questions)
    best: dict[str, Call] = {}
    for call in calls:
        if call.graph not in best or call.rows > best[call.graph].rows:
            best[call.graph] = call
    return best
