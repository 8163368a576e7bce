"""The exported forecaster in ONNX Runtime. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recipes.stocks.features import QUANTILES, TARGETS, features
from recipes.stocks.schema import Forecast, Series
from tidemill.kit.graphs import opened

BATCH = 4096  # windows in one call of the graph


class SeriesPredictor:
    def __init__(self, package: Path) -> None:
        tables = json.loads((package / "tables.json").read_text())
        self.window: int = tables["window"]
        self.wider = np.outer(tables["wider"], (-1, 0, 1))  # (4, 3)
        # A small graph: a second thread costs more than it brings.
        self.graphs = opened(package, threads=1)

    def predict(self, inputs: Sequence[Series]) -> list[Forecast]:
        quantiles = self.returns([item.table() for item in inputs])
        return [
            Forecast(
                returns={
                    name: [round(float(value), 6) for value in row]
                    for name, row in zip(TARGETS, rows, strict=True)
                },
                prices={
                    name: [round(float(item.close[-1] * (1 + value)), 4) for value in row]
                    for name, row in zip(TARGETS, rows, strict=True)
                },
            )
            for item, rows in zip(inputs, quantiles, strict=True)
        ]

    def returns(self, days: Sequence[np.ndarray]) -> np.ndarray:
        """Quantiles of tomorrow's returns (B, 4, 3), in order."""
        if not days:
            return np.zeros((0, len(TARGETS), len(QUANTILES)))
        steps, start, scale = features(days, self.window)
        parts = [
            self.graphs["model"].run(
                None, {"steps": steps[at : at + BATCH], "start": start[at : at + BATCH]}
            )[0]
            for at in range(0, len(steps), BATCH)
        ]
        logs = np.sort(np.concatenate(parts).astype(float), axis=2) + self.wider
        scaled = logs * scale[:, None, None]
        return np.sort(np.expm1(scaled.clip(-5, 5)), axis=2)
