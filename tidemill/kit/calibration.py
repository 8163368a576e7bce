"""Temperature scaling (Guo et al. 2017): one number that makes a classifier's confidences honest.

It is fitted on validation rows, lies in the package as calibration.json, and changes no answer.
"""

import json
from pathlib import Path

import numpy as np

NAME = "calibration.json"
LEAST = 1e-12  # probability, in a log loss


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(n, C) probabilities to the power 1 / temperature, normalised.

    The softmax of logits divided by it.
    """
    if temperature == 1.0:
        return probabilities
    with np.errstate(divide="ignore"):
        powered = np.log(probabilities, dtype=np.float32) / np.float32(temperature)
    powered -= powered.max(axis=1, keepdims=True)
    np.exp(powered, out=powered)
    powered /= powered.sum(axis=1, keepdims=True)
    return powered


def fitted(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature of least log loss: (n, C) and the targets' columns (n,).

    Beside the n rows counts one more, at which each answer was wrong (Laplace's rule of
    succession): a model that is right on all rows would else become certain of everything.
    1 where there is no row.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets):
        return 1.0
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        chances = tempered(probabilities, float(np.exp(log_temperature)))[rows, targets]
        right, wrong = _log(chances), _log(1 - chances.astype(float))
        return float(-right.mean() - wrong.mean() / len(targets))

    options = {"xatol": 1e-3, "maxiter": 25}
    found = minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded", options=options)
    return round(float(np.exp(found.x)), 4)


def _log(chances: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.log(np.maximum(chances, LEAST))
    return logs


def write(package: Path, value: float) -> None:
    (package / NAME).write_text(json.dumps({"temperature": value}) + "\n")


def temperature(package: Path) -> float:
    """What the package holds; 1 where it holds none."""
    path = package / NAME
    return float(json.loads(path.read_text())["temperature"]) if path.is_file() else 1.0
