"""Worlds of which the truth is known, asked through the gates themselves.

Each world makes the rows of two models, or of one, with a stated true difference, and a gate. Its
share of PROMOTE at "truth = bound" is the chance of a false promotion, which may be 5 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats
from scipy.signal import lfilter

from tasks.judge.comparison import Comparison
from tasks.judge.gates import ask
from tasks.judge.verdict import verdict
from tidemill.contract import Metric
from tidemill.engines.config.schema import Gate, Score
from tidemill.engines.mlflow.ledger import best
from tidemill.kit.metrics import macro_f1
from tidemill.records.receipts import Finding, Reuse, Scored

ALPHA = 0.05


class Measured:
    """Metrics of frames that hold their numbers by row: right, loss, and target and answer."""

    metrics = {
        "accuracy": Metric(better="higher", low=0, high=1),
        "loss": Metric(better="lower", low=0),
        "bounded_loss": Metric(better="lower", low=0, high=1),
        "macro_f1": Metric(better="higher", low=0, high=1),
    }

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        one = np.ones(len(frame))
        columns = {"accuracy": "right", "loss": "loss", "bounded_loss": "bounded_loss"}
        return {
            name: (frame[column].to_numpy(float), one)
            for name, column in columns.items()
            if column in frame
        }

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {
            name: (weights @ over) / (weights @ under)
            for name, (over, under) in self.ratios(frame).items()
        }
        if "target" in frame and "right" not in frame:
            found["macro_f1"] = macro_f1(frame["target"], frame["answer"], weights)
        return found


@dataclass(frozen=True)
class World:
    """One simulated question: how rows come about, and the gate that judges them."""

    name: str
    gate: dict[str, Any]
    make: Callable[[np.random.Generator], tuple[dict[str, pd.DataFrame], pd.DataFrame]]
    settings: dict[str, Any] = field(default_factory=dict)

    def findings(self, seed: int) -> list[Finding]:
        return self.asked(*self.make(np.random.default_rng(seed)), seed)

    def asked(
        self, frames: dict[str, pd.DataFrame], rows: pd.DataFrame, seed: int, tries: float = 1
    ) -> list[Finding]:
        """The gate's findings of these rows, by the candidate number `tries` that is asked them."""
        slices = tuple(column for column in rows if column not in ("example_id", "unit"))
        settings = {"resamples": 1000, "slices": slices, "min_units": 6} | self.settings
        made = Comparison(
            frames,
            rows,
            Score(**settings),
            Measured(),
            seed=seed,
            scored=Scored(
                frames={}, rows=len(rows), champion="1", reuse=Reuse(tries=tries, asked=int(tries))
            ),
        )
        return ask(Gate(name=self.name, why="a simulation", **self.gate), made)

    def promoted(self, seed: int) -> bool:
        return verdict(self.findings(seed))[0] == "PROMOTE"


@dataclass(frozen=True)
class Share:
    """How often something happened in so many trials, with its Monte Carlo interval."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials

    @property
    def error(self) -> float:
        return float(np.sqrt(self.value * (1 - self.value) / self.trials))

    def at_most(self, bound: float, level: float = 0.99) -> bool:
        """Whether the exact interval of this level includes `bound`, or lies under it."""
        low = stats.binomtest(self.hits, self.trials).proportion_ci(level, "exact").low
        return bool(low <= bound)

    def __str__(self) -> str:
        return f"{self.value:.3f} +- {self.error:.3f}"


def promotions(world: World, trials: int, seed: int = 1) -> Share:
    return Share(sum(world.promoted(seed * 1_000_000 + trial) for trial in range(trials)), trials)


def rejections(world: World, trials: int, seed: int = 0) -> Share:
    seeds = (seed * 1_000_000 + trial for trial in range(trials))
    return Share(sum(verdict(world.findings(seed))[0] == "REJECT" for seed in seeds), trials)


def rows_of(count: int, unit: np.ndarray | None = None, **slices: np.ndarray) -> pd.DataFrame:
    units = np.arange(count) if unit is None else unit
    return pd.DataFrame({"example_id": np.arange(count), "unit": units, **slices})


Made = tuple[dict[str, pd.DataFrame], pd.DataFrame]
Maker = Callable[[np.random.Generator], Made]


def alone(rows: int, chance: float, sizes: int = 1) -> Maker:
    """One model that is right with this chance; units of `sizes` rows are right or wrong
    together.
    """

    def make(random: np.random.Generator) -> Made:
        unit = np.arange(rows) // sizes
        right = (random.random(unit.max() + 1) < chance)[unit].astype(float)
        return {"candidate": _answered(pd.DataFrame({"right": right}))}, rows_of(rows, unit)

    return make


def pair(rows: int, loses: float, wins: float = 0.0, base: float = 1.0) -> Maker:
    """The candidate is wrong where the champion is right on a share `loses` of rows; and `wins`."""

    def make(random: np.random.Generator) -> Made:
        draw, both = random.random(rows), (random.random(rows) < base).astype(float)
        lost, won = draw < loses, draw > 1 - wins
        ours = np.where(lost, 0.0, np.where(won, 1.0, both))
        theirs = np.where(lost, 1.0, np.where(won, 0.0, both))
        return _frames(right=(ours, theirs)), rows_of(rows)

    return make


SPREAD = 0.5  # of units between models
# The share of rows that a model of `clusters` has right: a logistic over a normal distribution.
CLUSTERS_WIN = float(stats.norm(1.2, np.hypot(0.8, SPREAD)).expect(special.expit))


def clusters(count: int, size: int, worse: float, spread: float = SPREAD) -> Maker:
    """Units of very unequal size (mean `size`), each easy or hard for each model; worse by so
    much.
    """

    def make(random: np.random.Generator) -> Made:
        shares = random.dirichlet(np.ones(count)) * (size - 1) * count
        unit = np.repeat(np.arange(count), 1 + random.poisson(shares))
        together = random.normal(1.2, 0.8, count)[unit]
        right = []
        for loss in (worse, 0.0):
            lean = together + random.normal(0, spread, count)[unit]
            wins = random.random(len(unit)) < 1 / (1 + np.exp(-lean))
            right.append(wins & (random.random(len(unit)) >= loss))
        return _frames(right=(right[0] * 1.0, right[1] * 1.0)), rows_of(len(unit), unit)

    return make


def disaster(rows: int, column: str, size: float = 1.0, every: int = 200) -> Maker:
    """One row of `every` is a disaster of the candidate's; else it is as good but for some
    noise.
    """

    def make(random: np.random.Generator) -> Made:
        theirs = random.uniform(0, 0.02, rows)
        ours = random.uniform(0, 0.02, rows)
        hit = random.random(rows) < 1 / every
        return _frames(**{column: (np.where(hit, ours + size * 0.95, ours), theirs)}), rows_of(rows)

    return make


def sliced(per_slice: int, slices: int, worse: float, chance: float = 0.9) -> Maker:
    """Equal models, but for slice 0, where the candidate is worse."""

    def make(random: np.random.Generator) -> Made:
        label = np.repeat(np.arange(slices), per_slice)
        theirs = (random.random(len(label)) < chance).astype(float)
        ours = theirs.copy()
        change = random.random(len(label)) < 0.02
        ours[change] = (random.random(int(change.sum())) < chance).astype(float)
        ours[(label == 0) & (random.random(len(label)) < worse / chance)] = 0.0
        return _frames(right=(ours, theirs)), rows_of(len(label), label=label.astype(str))

    return make


def groups(rows: int, chances: Sequence[float]) -> Maker:
    """One model that is right with another chance in each group of so many rows."""

    def make(random: np.random.Generator) -> Made:
        group = np.repeat(np.arange(len(chances)), rows)
        right = (random.random(len(group)) < np.asarray(chances)[group]).astype(float)
        frame = _answered(pd.DataFrame({"right": right}))
        return {"candidate": frame}, rows_of(len(group), group=group.astype(str))

    return make


def classes(rows: int, count: int, noise: float = 0.2) -> Maker:
    """Two equal models of many classes, rare ones among them."""

    def make(random: np.random.Generator) -> Made:
        shares = 1 / np.arange(1, count + 1)
        target = random.choice(count, rows, p=shares / shares.sum())
        frames = {}
        for name in ("candidate", "champion"):
            wrong = random.random(rows) < noise
            answer = np.where(wrong, random.integers(count, size=rows), target)
            frames[name] = pd.DataFrame({"target": target, "answer": answer}).astype(
                pd.CategoricalDtype(np.arange(count))
            )
        return frames, rows_of(rows)

    return make


def days(count: int, correlation: float, worse: float = 0.0) -> Maker:
    """A row a day, whose errors go together: the difference is an autoregression."""

    def make(random: np.random.Generator) -> Made:
        shocks = random.normal(0, 0.1, count + 300)
        gap = lfilter([1], [1, -correlation], shocks)[300:]
        theirs = np.full(count, 50.0)
        day = np.array([f"{number:06d}" for number in range(count)])
        return _frames(loss=(theirs + gap + worse, theirs)), rows_of(count, day)

    return make


def confident(rows: int, gap: float, sizes: int = 1, spread: float = 0.0) -> Maker:
    """A model whose confidence is above its share of right answers by `gap`."""

    def make(random: np.random.Generator) -> Made:
        unit = np.arange(rows) // sizes
        confidence = 1 - 0.4 * random.beta(1, 3, rows)
        lean = random.choice([-spread, spread], unit.max() + 1)[unit]
        chance = np.clip(
            confidence - gap + np.minimum(np.abs(lean), 1 - confidence) * np.sign(lean), 0, 1
        )
        right = (random.random(rows) < chance).astype(float)
        frame = pd.DataFrame({"right": right, "confidence": confidence})
        return {"candidate": _answered(frame)}, rows_of(rows, unit)

    return make


def _answered(frame: pd.DataFrame) -> pd.DataFrame:
    """With a target and an answer, which are the same where a row is right."""
    return frame.assign(target=1.0, answer=frame["right"]) if "right" in frame else frame


def _frames(**columns: Sequence[np.ndarray]) -> dict[str, pd.DataFrame]:
    return {
        model: _answered(pd.DataFrame({name: parts[place] for name, parts in columns.items()}))
        for place, model in enumerate(("candidate", "champion"))
    }


def gate(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, **more}


ACCURATE = {"metric": "accuracy"}
BY_LABEL = gate("no_worse", **ACCURATE, margin=0.05, by="label")
BOUNDED = gate("no_worse", metric="bounded_loss", margin=0.005 * 0.95)
UNBOUNDED = gate("no_worse", metric="loss", margin=0.005 * 0.95)
# A winner of `clusters` loses this share of its rows: so many rows of all it is worse by.
CLUSTERED = gate("no_worse", **ACCURATE, margin=0.05 * CLUSTERS_WIN)
FAIR = gate("fair", **ACCURATE, at_most=0.1, by="group")
BY_DAY = gate("better", metric="loss", method="diebold_mariano")

FALSE: tuple[World, ...] = (
    World("60 rows, accuracy .99", gate("limit", **ACCURATE, at_least=0.99), alone(60, 0.99)),
    World(
        "1,000 rows, accuracy .999", gate("limit", **ACCURATE, at_least=0.999), alone(1000, 0.999)
    ),
    World(
        "60 units of 20 rows, accuracy .99",
        gate("limit", **ACCURATE, at_least=0.99),
        alone(1200, 0.99, 20),
    ),
    World(
        "300 units of 5 rows, accuracy .9",
        gate("limit", **ACCURATE, at_least=0.9),
        alone(1500, 0.9, 5),
    ),
    World("60 rows, worse by .01", gate("no_worse", **ACCURATE, margin=0.01), pair(60, 0.01)),
    World("500 rows, worse by .01", gate("no_worse", **ACCURATE, margin=0.01), pair(500, 0.01)),
    World(
        "2,000 rows, worse by .01",
        gate("no_worse", **ACCURATE, margin=0.01),
        pair(2000, 0.04, 0.03, 0.9),
    ),
    World(
        "100 rows, worse by .05",
        gate("no_worse", **ACCURATE, margin=0.05),
        pair(100, 0.1, 0.05, 0.9),
    ),
    World("500 rows, equal", gate("better", **ACCURATE), pair(500, 0.05, 0.05, 0.8)),
    World("10 units, equal", gate("better", **ACCURATE), clusters(10, 100, 0.0)),
    World("30 units, equal", gate("better", **ACCURATE), clusters(30, 50, 0.0)),
    World("300 units, equal", gate("better", **ACCURATE), clusters(300, 6, 0.0)),
    World("30 units, worse by the margin", CLUSTERED, clusters(30, 50, 0.05)),
    World("300 units, worse by the margin", CLUSTERED, clusters(300, 6, 0.05)),
    World("60 rows, a disaster in 200", BOUNDED, disaster(60, "bounded_loss")),
    World("250 rows, a disaster in 200", BOUNDED, disaster(250, "bounded_loss")),
    World("1,000 rows, a disaster in 200", BOUNDED, disaster(1000, "bounded_loss")),
    World("60 rows, no range, a disaster in 200", UNBOUNDED, disaster(60, "loss")),
    World("250 rows, no range, a disaster in 200", UNBOUNDED, disaster(250, "loss")),
    World("1,000 rows, no range, a disaster in 200", UNBOUNDED, disaster(1000, "loss")),
    World("3,000 rows, no range, a disaster in 200", UNBOUNDED, disaster(3000, "loss")),
    World("a label worse by the margin", BY_LABEL, sliced(100, 10, 0.05)),
    World("a label worse by two margins", BY_LABEL, sliced(100, 10, 0.1)),
    World("150 labels, all wrong on one", BY_LABEL, sliced(100, 150, 0.9)),
    World(
        "600 rows, 40 classes, equal",
        gate("better", metric="macro_f1"),
        classes(600, 40),
        {"resamples": 500},
    ),
    World("100 days, correlation .8", BY_DAY, days(100, 0.8), {"tail_rows": 50}),
    World("250 days, correlation .5", BY_DAY, days(250, 0.5), {"tail_rows": 50}),
    World("250 days, correlation .8", BY_DAY, days(250, 0.8), {"tail_rows": 50}),
    World("987 rows, error .03", gate("calibrated", at_most=0.03), confident(987, 0.03)),
    World("987 rows, error .045", gate("calibrated", at_most=0.03), confident(987, 0.045)),
    World("500 rows, error .1", gate("calibrated", at_most=0.1), confident(500, 0.1)),
    World("5,000 rows, error .03", gate("calibrated", at_most=0.03), confident(5000, 0.03)),
    World(
        "200 units of 5 rows, error .05",
        gate("calibrated", at_most=0.05),
        confident(1000, 0.05, 5, 0.05),
    ),
    World("two groups of 200, .1 apart", FAIR, groups(200, (0.9, 0.8))),
    World("two groups of 150, .1 apart, near 1", FAIR, groups(150, (0.99, 0.89))),
    World("five groups of 300, .1 apart", FAIR, groups(300, (0.9, 0.85, 0.8, 0.85, 0.9))),
    World("400 rows, flips .03", gate("flips", at_most=0.03), pair(400, 0.03, 0.03, 0.9)),
)
"""Truth is at the bound, or past it: PROMOTE is a mistake."""

TRUE: tuple[World, ...] = (
    World("1,000 rows, accuracy .99", gate("limit", **ACCURATE, at_least=0.97), alone(1000, 0.99)),
    World("500 rows, the same", gate("no_worse", **ACCURATE, margin=0.01), pair(500, 0.0)),
    World(
        "2,000 rows, equal",
        gate("no_worse", **ACCURATE, margin=0.01),
        pair(2000, 0.01, 0.01, 0.95),
    ),
    World("500 rows, better by .05", gate("better", **ACCURATE), pair(500, 0.05, 0.1, 0.8)),
    World(
        "ten labels, equal",
        gate("no_worse", **ACCURATE, margin=0.1, by="label"),
        sliced(100, 10, 0),
    ),
    World(
        "5,000 rows, no range, equal",
        gate("no_worse", metric="loss", margin=0.005),
        disaster(5000, "loss", 0.0),
    ),
    World(
        "250 days, better",
        gate("better", metric="loss", method="diebold_mariano"),
        days(250, 0.5, -0.05),
        {"tail_rows": 50},
    ),
    World("three groups of 800, equal", FAIR, groups(800, (0.9, 0.9, 0.9))),
    World("987 rows, honest", gate("calibrated", at_most=0.05), confident(987, 0.0)),
    World("5,000 rows, honest", gate("calibrated", at_most=0.03), confident(5000, 0.0)),
    World(
        "600 units of 5 rows, honest",
        gate("calibrated", at_most=0.06),
        confident(3000, 0.0, 5, 0.05),
    ),
)
"""Truth is good: PROMOTE is right, and its share is the power."""

CAUGHT: tuple[World, ...] = (
    World("150 labels, all wrong on one", BY_LABEL, sliced(100, 150, 0.9)),
    World("1,000 rows, error .1", gate("calibrated", at_most=0.05), confident(1000, 0.1)),
    World("5,000 rows, error .06", gate("calibrated", at_most=0.03), confident(5000, 0.06)),
    World("three groups of 300, .25 apart", FAIR, groups(300, (0.9, 0.9, 0.65))),
    World(
        "500 rows, worse by three margins",
        gate("no_worse", **ACCURATE, margin=0.05),
        pair(500, 0.2, 0.05, 0.9),
    ),
)
"""Truth is past the bound, by far: REJECT is right, and its share is the power to catch it."""

ALARMS: tuple[World, ...] = (
    World("ten labels, equal", BY_LABEL, sliced(100, 10, 0.0)),
    World(
        "500 rows, worse by the margin",
        gate("no_worse", **ACCURATE, margin=0.05),
        pair(500, 0.1, 0.05, 0.9),
    ),
    World("four groups of 300, .1 apart", FAIR, groups(300, (0.9, 0.8, 0.8, 0.9))),
    World("987 rows, at the bound", gate("calibrated", at_most=0.03), confident(987, 0.03)),
    World(
        "200 units of 5 rows, honest",
        gate("calibrated", at_most=0.03),
        confident(1000, 0.0, 5, 0.1),
    ),
)
"""Truth is good, or at the bound: REJECT is a mistake."""


def slide(nights: int, rows: int, margin: float, step: float, anchored: bool) -> list[float]:
    """The true accuracy of the live model, night by night, where each candidate is worse by `step`.

    Each night has new rows. A row is hard to the degree `u`, and a model of accuracy q has it right
    where u < q, but for one row in fifty, which is a matter of luck.
    """
    live, quality = [0.95], 0.95
    figures: dict[str, float | None] = {"0": 0.95}
    truths = {"0": 0.95}
    question = Gate(name="champion", why="w", **gate("no_worse", metric="accuracy", margin=margin))
    for night in range(nights):
        random = np.random.default_rng([night, 5])
        hard = random.random(rows)

        def answered(truth: float, hard: np.ndarray = hard, random: Any = random) -> pd.DataFrame:
            lucky = random.random(len(hard)) < 0.02
            right = np.where(lucky, random.random(len(hard)) < truth, hard < truth)
            return pd.DataFrame({"right": right.astype(float)})

        anchor = best(figures, "higher") if anchored else None
        champion = list(truths)[-1]
        models = {"candidate": quality - step, "champion": quality}
        if anchor not in (None, champion):
            models["anchor"] = truths[str(anchor)]
        frames = {name: answered(truth) for name, truth in models.items()}
        made = Comparison(
            frames,
            rows_of(rows),
            Score(resamples=500),
            Measured(),
            seed=night,
            scored=Scored(
                frames={},
                rows=rows,
                champion=champion,
                anchor=anchor if "anchor" in models else None,
            ),
        )
        if verdict(ask(question, made))[0] == "PROMOTE":
            quality -= step
            truths[str(night + 1)] = quality
            figures[str(night + 1)] = float(frames["candidate"]["right"].mean())
        live.append(quality)
    return live


EQUAL_TRIES = World("500 rows, equal", gate("better", **ACCURATE), pair(500, 0.0, base=0.8))
"""The champion and, of many candidates, the first: each has .8 of the rows right."""


def promoted_among(tries: int, seed: int) -> bool:
    """Whether any of so many candidates, none better than the champion, is promoted on one test
    set.
    """
    frames, rows = EQUAL_TRIES.make(np.random.default_rng(seed))
    champion = frames["champion"]
    for number in range(1, tries + 1):
        random = np.random.default_rng([seed, number])
        right = champion["right"].to_numpy(float).copy()
        anew = random.random(len(right)) < 0.2
        right[anew] = random.random(int(anew.sum())) < 0.8
        models = {"champion": champion, "candidate": _answered(pd.DataFrame({"right": right}))}
        if verdict(EQUAL_TRIES.asked(models, rows, seed, number))[0] == "PROMOTE":
            return True
    return False
