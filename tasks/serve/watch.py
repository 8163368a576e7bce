"""python -m tasks.serve.watch APPLICATION: whether what is served has moved.

That is, what is asked, or how well it is answered, since the champion was judged. Two figures, of
the served questions that conf/recipe's serve.sample had noted. Drift: the population stability
index of each noted column against the champion's test rows; it counts where it is large and cannot
be chance. Accuracy: the first metric on served questions whose labels came in since, against the
champion's on its test rows.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from tasks.score.drift import psi
from tasks.serve.loaded_model import LoadedModel, load
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import Serve
from tidemill.engines.dvc import snapshots
from tidemill.engines.mlflow import packages, registry, tags
from tidemill.engines.mlflow.live import live
from tidemill.records import blobs
from tidemill.records.receipts import Watched
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import digest

REFERENCE = 1_000  # test rows the champion is asked, to know what it usually sees and says
VALUES = 20  # of a column of words; rarer ones count as one
BINS = 10
ALPHA = 0.001  # of a drift that is chance: columns and rounds are many
LABELLED = 30  # served rows with a label, from which their accuracy is told


def watch(application: str) -> Watched:
    settings = config.recipe(application).serve
    number = live(application).version
    if number is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    served = noted(application, number)
    if len(served) < settings.watch_rows:
        return Watched(
            application=application,
            version=number,
            rows=len(served),
            because=f"{len(served)} served questions were noted, {settings.watch_rows} are needed",
        )
    model = load(
        application,
        number,
        packages.fetch(application, number),
        registry.tag(application, number, tags.DIGEST) or "",
    )
    return compared(application, model, served, settings)


def compared(
    application: str, model: LoadedModel, served: pd.DataFrame, settings: Serve
) -> Watched:
    """The drift and the accuracy of served questions, against the champion's test rows."""
    rows = judged_on(application, model)
    asked = rows.sort_values("example_id", kind="stable").head(REFERENCE)
    drift = moved(usual(model, asked), pd.DataFrame([json.loads(item) for item in served["noted"]]))
    name, meaning = next(iter(model.recipe.metrics.items()))
    labelled = since(application, served, model)
    enough = len(labelled) >= LABELLED
    seen = Watched(
        application=application,
        version=model.version,
        rows=len(served),
        because="",
        labelled=len(labelled),
        metric=name,
        drift={key: round(value, 4) for key, (value, _) in drift.items()},
        figure=figure(model, labelled, name) if enough else None,
        expected=figure(model, asked, name) if enough else None,
    )
    sure = {key for key, (_, is_sure) in drift.items() if is_sure}
    sign = 1 if meaning.better == "higher" else -1
    return judged(seen, sure, sign, settings)


def usual(model: LoadedModel, asked: pd.DataFrame) -> pd.DataFrame:
    """What is noted of the champion's own test rows, as of served questions."""
    questions = [model.recipe.Input.model_validate_json(item) for item in asked["inputs"]]
    answers = model.answers(questions)
    return pd.DataFrame(
        [contract.noted(model.recipe, *pair) for pair in zip(questions, answers, strict=True)]
    )


def judged(seen: Watched, sure: set[str], sign: int, settings: Serve) -> Watched:
    """What was seen, with whether it is an alarm, and the words for it."""
    alarms = [
        f"{name} drifted by {value:.2f} (PSI; {settings.drift:g} is allowed)"
        for name, value in seen.drift.items()
        if value > settings.drift and name in sure
    ]
    figure, expected = seen.figure, seen.expected
    if figure is not None and expected is not None and sign * (expected - figure) > settings.drop:
        alarms.append(
            f"{seen.metric} is {figure:.3f} on {seen.labelled} served rows that "
            f"were labelled since, {expected:.3f} on the test rows"
        )
    calm = "what is asked and how it is answered is as it was judged"
    return seen.model_copy(update={"alarm": bool(alarms), "because": "; ".join(alarms) or calm})


def noted(application: str, number: str) -> pd.DataFrame:
    """The noted questions that this version answered."""
    files = sorted(paths.data("served", application).rglob("*.parquet"))
    whole = (
        pd.concat([pd.read_parquet(path) for path in files])
        if files
        else pd.DataFrame({"version": [], "noted": [], "question_digest": []})
    )
    return whole[whole["version"] == number].reset_index(drop=True)


def judged_on(application: str, model: LoadedModel) -> pd.DataFrame:
    """The test rows of the champion's own snapshot: today's, else restored by its name."""
    here = paths.data("splits", application)
    report = here / "report.json"
    if not report.is_file() or json.loads(report.read_text()).get("snapshot") != model.snapshot:
        here = paths.state("snapshots", f"{application}-{model.snapshot[:16]}")
        if not (here / "test.parquet").is_file():
            snapshots.restore(here.name, here)
    path = Path(here) / "test.parquet"
    if not path.is_file():
        raise Fault(
            f"the test rows of {application} version {model.version} are missing: no {path.name} "
            "in its snapshot; see tidemill data list"
        )
    return blobs.examples(path)


def moved(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, tuple[float, bool]]:
    """Each column's PSI, and whether it cannot be chance.

    Without drift, PSI / (1/n + 1/m) is chi-squared (Yurdakul 2018).
    """
    found = {}
    for name in before.columns.intersection(now.columns):
        sides = [frame[name].dropna() for frame in (before, now)]
        if pd.api.types.is_numeric_dtype(sides[0]):
            edges = np.unique(np.quantile(sides[0], np.linspace(0, 1, BINS + 1)[1:-1]))
            sides = [pd.Series(np.searchsorted(edges, side.astype(float))) for side in sides]
        else:
            common = set(sides[0].value_counts().head(VALUES).index)
            sides = [side.where(side.isin(common), "another") for side in sides]
        if not all(map(len, sides)):
            continue
        value = psi(*sides)
        freedom = max(1, pd.concat(sides).nunique() - 1)
        found[str(name)] = (
            value,
            bool(
                value / (1 / len(sides[0]) + 1 / len(sides[1])) > stats.chi2.ppf(1 - ALPHA, freedom)
            ),
        )
    return found


def since(application: str, served: pd.DataFrame, model: LoadedModel) -> pd.DataFrame:
    """Labelled examples that were asked of the server, and that the champion was not trained on."""
    path = paths.data("labels", application) / "examples.parquet"
    if not path.is_file():
        return pd.DataFrame()
    labels = blobs.examples(path)
    asked = set(served["question_digest"])
    mine = labels[[digest(json.loads(item)) in asked for item in labels["inputs"]]]
    train = paths.data("splits", application) / "train.parquet"
    known = (
        set(pd.read_parquet(train, columns=["example_id"])["example_id"])
        if train.is_file()
        else set()
    )
    return mine[~mine["example_id"].isin(known)].drop_duplicates("example_id")


def figure(model: LoadedModel, rows: pd.DataFrame, metric: str) -> float:
    frame = model.recipe.evaluate(model.session, rows.reset_index(drop=True))
    return round(float(model.recipe.metric(frame, np.ones((1, len(frame))))[metric][0]), 6)


def main(arguments: list[str]) -> Watched:
    if len(arguments) != 1:
        raise Refused(f"name an application; there are {', '.join(config.files('recipe'))}")
    return watch(arguments[0])


if __name__ == "__main__":
    process.main(
        main,
        "python -m tasks.serve.watch APPLICATION: whether what is served has moved.",
    )
