"""Champion and challenger on the same live questions, logged with MLflow.

How often they differ, and how long each takes.
"""

import json
import logging
import subprocess
import sys
import time
from typing import Any, Literal

import numpy as np

from tasks.serve.measure import COMPARED, DIFFERED
from tidemill.runtime import paths, process

log = logging.getLogger(__name__)
EVERY_S = 300.0
MOST = 10_000  # latencies that are kept of each side between two reports


class ShadowReport:
    """Counts since the last report, which is sent by a child: MLflow's client takes 300 MB."""

    def __init__(
        self, application: str, kind: str, champion: str, challenger: str, every_s: float = EVERY_S
    ) -> None:
        self.application, self.kind, self.pair, self.every_s = (
            application,
            kind,
            (champion, challenger),
            every_s,
        )
        self.children: list[subprocess.Popen[bytes]] = []
        self._reset()

    def _reset(self) -> None:
        self.began = time.monotonic()
        self.compared = self.differed = self.failed = 0
        self.times: dict[str, list[float]] = {"champion": [], "challenger": []}

    def latency(self, side: Literal["champion", "challenger"], ms: float) -> None:
        if len(self.times[side]) < MOST:
            self.times[side].append(ms)
        if time.monotonic() - self.began > self.every_s:
            self.send()

    def compare(self, same: list[bool]) -> None:
        self.compared += len(same)
        self.differed += len(same) - sum(same)
        COMPARED.labels(self.application).inc(len(same))
        DIFFERED.labels(self.application).inc(len(same) - sum(same))

    def figures(self) -> dict[str, float]:
        """The counts, the share of disagreement, and p50 and p95 of each side in ms."""
        found = {"serve.compared": float(self.compared), "serve.failed": float(self.failed)}
        if self.compared:
            found["serve.disagreement"] = self.differed / self.compared
        for side, times in self.times.items():
            if times:
                found[f"serve.{side}_requests"] = float(len(times))
                found |= {
                    f"serve.{side}_p{int(100 * level)}_ms": float(np.quantile(times, level))
                    for level in (0.5, 0.95)
                }
        return found

    def send(self, wait: bool = False) -> None:
        """Log the counts with a run of their own in MLflow, and begin anew."""
        report: dict[str, Any] = {
            "application": self.application,
            "kind": self.kind,
            "champion": self.pair[0],
            "challenger": self.pair[1],
            "figures": self.figures(),
        }
        idle = not any(self.times.values())
        self._reset()
        if idle:
            return
        self.children = [child for child in self.children if child.poll() is None]
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "tidemill.engines.mlflow.shadow", json.dumps(report)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**process.variables(), "TIDEMILL_OWNER": ""},
                cwd=paths.root(),
            )
            self.children.append(child)
            if wait:
                child.wait(60)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning(
                "the shadow report of %s could not be logged with MLflow: %s",
                self.application,
                error,
            )
