"""A sweep in two pictures.

Every trial as a line through its parameters, and how much each parameter mattered.
"""

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
    names = [*settings.space, settings.metric]
    columns: list[tuple[np.ndarray, list[str] | None]] = []
    for name in names:
        raw = [trial.values[0] if name == settings.metric else trial.params[name] for trial in done]
        dimension = settings.space.get(name)
        if dimension is not None and dimension.choices:
            columns.append(
                (
                    np.array([dimension.choices.index(value) for value in raw], float),
                    [str(choice) for choice in dimension.choices],
                )
            )
        else:
            columns.append(
                (
                    np.log10(raw)
                    if dimension is not None and dimension.log
                    else np.array(raw, float),
                    None,
                )
            )
    ranked = np.argsort(np.argsort(columns[-1][0])) / (len(done) - 1)
    figure, axis = plt.subplots(figsize=(1.8 * len(names) + 1, 4))
    low, span = (
        [float(values.min()) for values, _ in columns],
        [float(np.ptp(values)) or 1.0 for values, _ in columns],
    )
    for number in np.argsort(ranked):
        heights = [(values[number] - low[at]) / span[at] for at, (values, _) in enumerate(columns)]
        axis.plot(
            range(len(names)),
            heights,
            color=plt.get_cmap("viridis_r")(0.1 + 0.9 * ranked[number]),
            alpha=0.4 + 0.6 * ranked[number],
        )
    for at, (values, words) in enumerate(columns):
        axis.axvline(at, color="grey", linewidth=0.5)
        dimension = settings.space.get(names[at])
        for share in [0.0, 0.5, 1.0] if words is None else []:
            value = low[at] + share * float(np.ptp(values))
            axis.text(
                at,
                share,
                f" {10**value if dimension is not None and dimension.log else value:.3g}",
                fontsize=7,
                va="center",
            )
        for place, word in enumerate(words or ()):
            axis.text(at, (place - low[at]) / span[at], f" {word}", fontsize=7, va="center")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks([])
    axis.set_title(f"{len(done)} complete trials; darker is better")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


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
