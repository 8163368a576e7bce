"""A sweep in two pictures.

Every trial as a line through its parameters, and how much each parameter mattered.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optuna
from optuna.trial import TrialState


def draw(study: Any, folder: Path) -> None:
    done = study.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) > 1:
        parallel(done, study.settings, folder / "trials.png")
    if len(done) > 3:
        importances(study, folder / "importances.png")


def parallel(done: list[Any], settings: Any, path: Path) -> None:
    """Parallel coordinates (Inselberg 1985): an axis for each parameter, the metric last.

    Better trials are darker.
    """
    axes = [_axis(name, done, settings) for name in (*settings.space, settings.metric)]
    ranked = np.argsort(np.argsort(axes[-1].values)) / (len(done) - 1)
    figure, plot = plt.subplots(figsize=(1.8 * len(axes) + 1, 4))
    for number in np.argsort(ranked):
        plot.plot(
            range(len(axes)),
            [axis.height(axis.values[number]) for axis in axes],
            color=plt.get_cmap("viridis_r")(0.1 + 0.9 * ranked[number]),
            alpha=0.4 + 0.6 * ranked[number],
        )
    for at, axis in enumerate(axes):
        plot.axvline(at, color="grey", linewidth=0.5)
        for height, words in axis.marks():
            plot.text(at, height, f" {words}", fontsize=7, va="center")
    plot.set_xticks(range(len(axes)), [axis.name for axis in axes])
    plot.set_yticks([])
    plot.set_title(f"{len(done)} complete trials; darker is better")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


@dataclass(frozen=True)
class Axis:
    """One vertical axis, and where each trial (N,) crosses it."""

    name: str
    values: np.ndarray  # choices by their place, logarithms where `log`
    choices: tuple[str, ...] | None = None
    log: bool = False

    def height(self, value: float) -> float:
        """Where a value stands: 0 is the least of the trials', 1 the greatest."""
        return (value - float(self.values.min())) / (float(np.ptp(self.values)) or 1.0)

    def marks(self) -> list[tuple[float, str]]:
        """Heights with what is written there: every choice, or the ends and the middle."""
        if self.choices is not None:
            return [(self.height(place), words) for place, words in enumerate(self.choices)]
        marks = []
        for share in (0.0, 0.5, 1.0):
            value = float(self.values.min()) + share * float(np.ptp(self.values))
            marks.append((share, f"{10**value if self.log else value:.3g}"))
        return marks


def _axis(name: str, done: list[Any], settings: Any) -> Axis:
    """The axis of a parameter, or of the metric."""
    if name == settings.metric:
        return Axis(name, np.array([trial.values[0] for trial in done], float))
    raw = [trial.params[name] for trial in done]
    dimension = settings.space[name]
    if dimension.choices:
        places = [dimension.choices.index(value) for value in raw]
        return Axis(name, np.array(places, float), tuple(str(each) for each in dimension.choices))
    values = np.log10(raw) if dimension.log else np.array(raw, float)
    return Axis(name, values, log=dimension.log)


def importances(study: Any, path: Path) -> None:
    """Share of the metric's variance that each parameter explains.

    By PED-ANOVA (Watanabe et al. 2023).
    """
    told = optuna.importance.get_param_importances(
        study.study,
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
        target=lambda trial: trial.values[0],
    )
    figure, axis = plt.subplots(figsize=(5, 0.5 * len(told) + 1))
    axis.barh(list(told)[::-1], list(told.values())[::-1], color="steelblue")
    axis.set_xlabel("importance")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
