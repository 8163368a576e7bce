"""The application in small; see tidemill/kit/drawn.py."""

import pandas as pd

from tidemill.kit.drawn import RecipeYaml, halves, row

FIELDS = {
    "layers": 1,
    "heads": 2,
    "width": 32,
    "context": 64,
    "vocabulary": 300,
    "batch": 4,
    "steps": 5,
    "samples": 0,
}
TEXTS = {
    "deu": "Jeder Mensch hat das Recht auf Leben und Freiheit",
    "eng": "Everyone has the right to life and to liberty",
    "fra": "Tout individu a droit à la vie et à la liberté",
}


def splits() -> dict[str, pd.DataFrame]:
    return halves(
        [
            row({"prompt": ""}, {"text": f"{text} {number}"}, language=name)
            for name, text in TEXTS.items()
            for number in range(12)
        ]
    )


def small(conf: RecipeYaml) -> None:
    conf["model"] = {
        "layers": 2,
        "heads": 2,
        "width": 64,
        "context": 64,
        "vocabulary": 600,
        "batch": 4,
        "steps": 50,
        "samples": 8,
    }
    conf["score"].update(resamples=200, perturbed_rows=40, requests=60, tail_rows=1, min_rows=30)
