"""Several networks' graphs in one: all are asked the same, and their outputs are averaged.

Outputs are averaged and never weights: five networks from different seeds gave 96.7 % each, 97.8 %
together, and 36.8 % with their weights averaged (docs/decisions/0026). Weights are averaged along
one training only (`trainer.ema`).
"""

from pathlib import Path
from typing import Any

import numpy as np

from tasks.export.quantise import GRAPH
from tidemill.contract import Application, Averageable
from tidemill.kit.graphs import examples
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import sha256


def average(application: Application[Any, Any, Any], packages: list[Path]) -> float:
    """Put the graphs of the others beside the first package's, in its file.

    Gives the largest difference from the mean of their answers.
    """
    import onnx

    first = packages[0]
    for package in packages[1:]:
        _check_files(first, package)
    models = [onnx.load(package / GRAPH) for package in packages]
    _check_outputs(application, {item.name for item in models[0].graph.output})
    asked = examples(application, application.open(first))[Path(GRAPH).stem].inputs
    # The first package's own answers are asked before its file is replaced.
    answers = [_answers(package / GRAPH, asked) for package in packages]
    means = [np.mean(parts, axis=0) for parts in zip(*answers, strict=True)]
    whole = joined(models)
    onnx.checker.check_model(whole)
    onnx.save(whole, first / GRAPH)
    together = _answers(first / GRAPH, asked)
    return max(float(np.abs(one - two).max()) for one, two in zip(together, means, strict=True))


def _check_files(first: Path, other: Path) -> None:
    """Raises `Fault` where two packages differ in more than their graphs."""
    mine, its = (
        {path.name: sha256(path) for path in folder.iterdir() if path.name != GRAPH}
        for folder in (first, other)
    )
    names = sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
    if names:
        raise Fault(
            f"ensemble.members: the networks have other {', '.join(names)}, so their answers mean "
            "other things; leave out of sweep.space what changes these, or say ensemble.members=1"
        )


def _check_outputs(application: Application[Any, Any, Any], names: set[str]) -> None:
    """Raises `Fault` where the application does not say that these outputs may be averaged."""
    may = application.averages if isinstance(application, Averageable) else ()
    if names != set(may):
        raise Fault(
            f"ensemble.members: the graph gives {', '.join(sorted(names))}, and only "
            f"{', '.join(may) or 'nothing'} may be averaged; say ensemble.members=1"
        )


def _answers(graph: Path, asked: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    answers: list[np.ndarray] = session.run(None, asked)
    return answers


def joined(models: list[Any]) -> Any:
    """One ONNX model of several with the same inputs, which gives the means of their outputs."""
    from onnx import compose, helper

    inputs, outputs = list(models[0].graph.input), list(models[0].graph.output)
    nodes, weights, functions = [], [], []
    opsets: dict[str, int] = {}
    for number, model in enumerate(models):
        own = compose.add_prefix(model, f"m{number}.", rename_inputs=False)
        nodes += own.graph.node
        weights += own.graph.initializer
        functions += own.functions
        opsets |= {item.domain: item.version for item in own.opset_import}
    for output in outputs:
        parts = [f"m{number}.{output.name}" for number in range(len(models))]
        nodes.append(helper.make_node("Mean", parts, [output.name], name=f"mean.{output.name}"))
    return helper.make_model(
        helper.make_graph(nodes, "ensemble", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        functions=functions,
        ir_version=models[0].ir_version,
    )
