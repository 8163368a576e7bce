"""The application in small; see tidemill/kit/drawn.py."""

import pandas as pd

from tidemill.kit.drawn import RecipeYaml, halves, row

FIELDS = {"bits": 10, "steps": 5, "batch": 16}
TEXTS = {
    "deu": "Jeder Mensch hat das Recht auf Leben und Freiheit",
    "eng": "Everyone has the right to life and to liberty",
    "fra": "Tout individu a droit à la vie et à la liberté",
}


def splits() -> dict[str, pd.DataFrame]:
    return halves(
        [
            row({"text": f"{text} {number}"}, {"language": name}, domain="udhr")
            for name, text in TEXTS.items()
            for number in range(40)
        ]
    )


def small(conf: RecipeYaml) -> None:
    conf["model"] = {"bits": 12, "steps": 40, "batch": 64}
    conf["sweep"].update(trials=1)
    conf["score"].update(resamples=400, min_rows=20)
    for gate in conf["gates"]:
        # Eight languages and a few hundred rows cannot show half a point of macro-F1, and how well
        # a table of 40 steps knows itself depends on the processor's last digits.
        if gate["kind"] in ("no_worse", "robust"):
            gate["margin"] = 0.2
        if gate["kind"] == "calibrated":
            gate["at_most"] = 0.3
