"""The application in small; see tidemill/kit/drawn.py."""

import pandas as pd

from tidemill.kit.drawn import RecipeYaml, halves, row

FIELDS = {"start": "", "width": 32, "layers": 1, "vocabulary": 300, "batch": 16, "lr": 0.003}
WORDS = {
    "negative": ("bad", "rude", "cold"),
    "neutral": ("open", "blue", "long"),
    "positive": ("good", "kind", "warm"),
}


def splits() -> dict[str, pd.DataFrame]:
    return halves(
        [
            row({"text": f"it was {word} {number}"}, {"label": name}, domain="tweets")
            for name, words in WORDS.items()
            for word in words
            for number in range(12)
        ]
    )


def small(conf: RecipeYaml) -> None:
    conf["model"] = {"start": "", "width": 64, "layers": 1, "vocabulary": 4000, "lr": 0.002}
    conf["trainer"].update(max_epochs=2)
    conf["score"].update(resamples=400, perturbed_rows=120, requests=60)
    for gate in conf["gates"]:
        # A layer from scratch in two epochs: what is looked at is the way to a verdict.
        if gate["kind"] in ("no_worse", "better"):
            gate.update(kind="no_worse", margin=0.4)
        if gate["kind"] == "limit":
            gate["at_least"] = 0.1
        if gate["kind"] in ("calibrated", "robust"):
            gate["at_most"] = 0.4
