"""Several networks' graphs in one: all are asked the same, and their outputs are averaged.

Outputs are averaged and never weights: five networks from different seeds gave 96.7 % each, 97.8 % together, and 36.8 % with
their weights averaged (docs/decisions/0026). Weights are averaged along one training only (`trainer.ema`).
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
    """Put the graphs of the others beside the first package's, in its file; the largest difference from the mean of their answers."""
    import onnx
    import onnxruntime
    from onnx import compose, helper

    first = packages[0]
    for package in packages[1:]:
        mine, its = (
            {path.name: sha256(path) for path in folder.iterdir() if path.name != GRAPH}
            for folder in (first, package)
        )
        if other := sorted(
            name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name)
        ):
            raise Fault(
                f"ensemble.members: the networks have other {', '.join(other)}, so their answers mean other things; leave out of sweep.space what changes these, or say ensemble.members=1"
            )
    models = [onnx.load(package / GRAPH) for package in packages]
    inputs, outputs = list(models[0].graph.input), list(models[0].graph.output)
    names = {item.name for item in outputs}
    may = application.averages if isinstance(application, Averageable) else ()
    if names != set(may):
        raise Fault(
            f"ensemble.members: the graph gives {', '.join(sorted(names))}, and only "
            f"{', '.join(may) or 'nothing'} may be averaged; say ensemble.members=1"
        )
    asked = examples(application, application.open(first))[Path(GRAPH).stem].inputs
    wanted = [
        np.mean(parts, axis=0)
        for parts in zip(
            *(
                onnxruntime.InferenceSession(
                    str(package / GRAPH), providers=["CPUExecutionProvider"]
                ).run(None, asked)
                for package in packages
            ),
            strict=True,
        )
    ]
    nodes, weights, functions = [], [], []
    opsets: dict[str, int] = {}
    for number, model in enumerate(models):
        own = compose.add_prefix(model, f"m{number}.", rename_inputs=False)
        nodes += own.graph.node
        weights += own.graph.initializer
        functions += own.functions
        opsets |= {item.domain: item.version for item in own.opset_import}
    for output in outputs:
        nodes.append(
            helper.make_node(
                "Mean",
                [f"m{number}.{output.name}" for number in range(len(models))],
                [output.name],
                name=f"mean.{output.name}",
            )
        )
    graph = helper.make_graph(nodes, "ensemble", inputs, outputs, weights)
    whole = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        functions=functions,
        ir_version=models[0].ir_version,
    )
    onnx.checker.check_model(whole)
    onnx.save(whole, first / GRAPH)
    found = onnxruntime.InferenceSession(
        str(first / GRAPH), providers=["CPUExecutionProvider"]
    ).run(None, asked)
    return max(float(np.abs(one - two).max()) for one, two in zip(found, wanted, strict=True))
