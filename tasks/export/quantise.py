"""Other forms of an exported network, smaller or faster; one is chosen by what was measured.

Each is timed and scored here. No rule says which form pays: dynamic int8 is twice as fast on a
transformer and half as fast on a convolution, where static int8 gains (docs/decisions/0015).
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tidemill.contract import Application, Calibratable, Metric, Predictor
from tidemill.engines.config.schema import Export
from tidemill.kit.graphs import recording
from tidemill.runtime import paths, process

GRAPH = "model.onnx"
Feeds = list[dict[str, np.ndarray]]


@dataclass
class MeasuredForm:
    """One form of a package and what was measured of it; `why` says what became of it."""

    name: str
    figure: float | None = None  # the metric by which forms are compared
    mb: float = 0.0
    memory_mb: float = 0.0
    p50_ms: float | None = None
    p95_ms: float = 0.0
    per_second: float = 0.0
    why: str = ""

    def row(self, metric: str) -> dict[str, str | float]:
        """Its row in the table of forms; what was not measured is not there."""
        row: dict[str, str | float] = {"form": self.name}
        if self.figure is not None:
            row |= {metric: self.figure, "mb": self.mb, "memory_mb": self.memory_mb}
        if self.p50_ms is not None:
            row |= {"p50_ms": self.p50_ms, "p95_ms": self.p95_ms, "per_second": self.per_second}
        return row | ({"why": self.why} if self.why else {})


def best(
    name: str,
    application: Application[Any, Any, Any],
    package: Path,
    valid: pd.DataFrame,
    settings: Export,
) -> tuple[str, list[dict[str, str | float]]]:
    """Try the forms, leave the best one in the package; its name, and the table of all of them.

    A form that cannot be made or opened has its reason in the table, and is not taken.
    """
    rows = valid.sort_values("example_id", kind="stable").head(settings.rows)
    metric = settings.metric or next(iter(application.metrics))
    table: list[MeasuredForm] = []
    predictors: dict[str, Predictor[Any, Any]] = {}
    others: dict[str, Path] = {
        kind: package.with_name(f"{package.name}.{kind}") for kind in settings.forms
    }
    try:
        feeds = _calibration(application, package, rows, settings)
        for kind, folder in [("fp32", package), *others.items()]:
            table.append(form := MeasuredForm(kind))
            try:
                if kind != "fp32":
                    make(kind, package, folder, feeds)
                    calibrate(application, folder, valid)
                predictors[kind] = _measure(form, name, application, folder, rows, metric)
            except Exception as error:
                # Whatever the converter or the engine makes of a graph: this form is not to be had.
                form.why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        _time(table, predictors, application, rows, settings.requests)
        chosen = choose(table, metric, application.metrics[metric], settings)
        if chosen != "fp32":
            for path in others[chosen].iterdir():
                shutil.copyfile(path, package / path.name)
        return chosen, [form.row(metric) for form in table]
    finally:
        for folder in others.values():
            shutil.rmtree(folder, ignore_errors=True)


def _calibration(
    application: Application[Any, Any, Any], package: Path, rows: pd.DataFrame, settings: Export
) -> dict[str, Feeds]:
    """What a static form takes its ranges from; nothing where none is asked for."""
    if "int8-static" not in settings.forms:
        return {}
    return recorded(application, package, rows.head(settings.calibration))


def make(form: str, package: Path, folder: Path, feeds: dict[str, Feeds]) -> None:
    """Write a copy of a package with all its graphs in another form."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, folder)
    for graph in sorted(package.glob("*.onnx")):
        convert(form, graph, folder / graph.name, feeds.get(graph.stem, []))


def calibrate(application: Application[Any, Any, Any], folder: Path, valid: pd.DataFrame) -> None:
    if isinstance(application, Calibratable):
        application.calibrate(folder, valid)


def _measure(
    form: MeasuredForm,
    name: str,
    application: Application[Any, Any, Any],
    folder: Path,
    rows: pd.DataFrame,
    metric: str,
) -> Predictor[Any, Any]:
    """Open a package and write its metric and its MB into its form."""
    predictor = application.open(folder)
    frame = application.evaluate(predictor, rows)
    figure = float(application.metric(frame, np.ones((1, len(frame))))[metric][0])
    form.mb = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 3)
    form.memory_mb = weighed(name, folder)
    form.figure = figure  # last: a form of which it is known was measured whole
    return predictor


def _time(
    table: list[MeasuredForm],
    predictors: dict[str, Predictor[Any, Any]],
    application: Application[Any, Any, Any],
    rows: pd.DataFrame,
    requests: int,
) -> None:
    """Ask all forms the same questions in turn, and write down their times."""
    from tidemill.package.latency import measured

    questions = [
        application.Input.model_validate_json(item) for item in rows.head(requests)["inputs"]
    ]
    times, _ = measured(predictors, questions, requests, batches=2)
    for form in table:
        if figures := times.get(form.name):
            form.p50_ms, form.p95_ms = round(figures["p50_ms"], 3), round(figures["p95_ms"], 3)
            form.per_second = round(figures["per_second"], 1)


def choose(table: list[MeasuredForm], metric: str, meaning: Metric, settings: Export) -> str:
    """The smallest of the forms within `gain` of the fastest.

    Only forms whose metric is not worse than fp32's by more than the margin count. Writes into each
    form whether it was taken, and why not.
    """
    base = table[0]
    fit = _fit(table, metric, meaning, settings)
    latencies = {form.name: form.p50_ms for form in fit if form.p50_ms is not None}
    if base.name not in latencies:
        return "fp32"
    fastest = min(latencies.values())
    near = [form for form in fit if latencies[form.name] <= fastest * (1 + settings.gain)]
    taken = min(near, key=lambda form: form.mb)
    if (
        base in near
        and taken.mb > base.mb * (1 - settings.gain)
        and latencies[taken.name] > latencies[base.name] * (1 - settings.gain)
    ):
        taken = base  # neither smaller nor faster by enough: what was exported stays
    for form in fit:
        latency, size = latencies[form.name] / latencies[taken.name], form.mb / taken.mb
        compared = f"{latency:.2f} times its latency, {size:.2f} times its size"
        form.why = "taken" if form is taken else compared
    return taken.name


def _fit(
    table: list[MeasuredForm], metric: str, meaning: Metric, settings: Export
) -> list[MeasuredForm]:
    """The forms that were measured whole and are good enough; the others are told why not."""
    base = table[0].figure
    sign = 1 if meaning.better == "higher" else -1
    fit = []
    for form in table:
        if form.why or form.p50_ms is None or form.figure is None or base is None:
            continue
        lost = sign * (base - form.figure)
        if not lost <= settings.margin:
            form.why = f"{metric} is worse by {lost:.4g}, {settings.margin:g} is allowed"
        else:
            fit.append(form)
    return fit


def convert(form: str, graph: Path, to: Path, feeds: Feeds) -> None:
    """Write a graph in another form."""
    {"int8-dynamic": _dynamic, "int8-static": _static, "fp16": _half}[form](graph, to, feeds)


def _prepared(graph: Path, to: Path) -> Path:
    """The graph with its shapes inferred and constants folded, which quantisation needs."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    part = to.with_suffix(".prepared")
    quant_pre_process(str(graph), str(part), skip_symbolic_shape=True)
    return part


def _dynamic(graph: Path, to: Path, feeds: Feeds) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    part = _prepared(graph, to)
    quantize_dynamic(str(part), str(to), weight_type=QuantType.QInt8)
    part.unlink()


def _static(graph: Path, to: Path, feeds: Feeds) -> None:
    """Weights signed, each output channel with a scale of its own.

    Activations are unsigned, their ranges taken from `feeds`.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    part = _prepared(graph, to)
    quantize_static(
        str(part),
        str(to),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    part.unlink()


def _half(graph: Path, to: Path, feeds: Feeds) -> None:
    """Weights stored in 16 bits and cast where they are used.

    Half the size on disk; computed in 32 bits as before.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(graph)
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < 256:
            continue
        values = numpy_helper.to_array(weight)
        if not np.isfinite(halved := values.astype(np.float16)).all():
            continue  # too large for 16 bits: it stays as it is
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(halved, f"{name}.half"))
        casts.append(
            helper.make_node(
                "Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, to)


def recorded(
    application: Application[Any, Any, Any], package: Path, rows: pd.DataFrame
) -> dict[str, Feeds]:
    """What each graph is fed when these rows are scored, by the application's own way of asking."""
    predictor = application.open(package)
    with recording(predictor) as calls:
        application.evaluate(predictor, rows)
    feeds: dict[str, Feeds] = {name: [] for name in predictor.graphs}
    for call in calls:
        feeds[call.graph].append(call.inputs)
    return feeds


def weighed(name: str, package: Path) -> float:
    """MB that opening a package and asking its golden questions takes, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tasks.export.measure_memory",
            name,
            str(package),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=process.variables(),
        cwd=paths.root(),
    )
    if done.returncode:
        raise RuntimeError(
            done.stderr.strip().splitlines()[-1]
            if done.stderr.strip()
            else "it could not be opened"
        )
    return float(done.stdout.splitlines()[-1])
