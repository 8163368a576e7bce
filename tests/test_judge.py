"""The verdict's truth table, and how sure a difference is."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recipes.metrics import accuracy, macro_f1
from tasks.judge.resample import Draws
from tasks.judge.verdict import non_inferior, superior, verdict, within
from tasks.receipts import Finding


def finding(answer: str) -> Finding:
    return Finding(gate="g", kind="limit", slice="all", metric="m", answer=answer, figure=1.0, reason="so")  # type: ignore[arg-type]


@pytest.mark.parametrize(("answers", "expected"), [
    (["pass"], "PROMOTE"), (["pass", "reported", "not applicable"], "PROMOTE"),
    (["pass", "unclear"], "HOLD"), (["unclear", "fail"], "REJECT"), (["pass", "fail"], "REJECT"),
    (["not applicable"], "HOLD"), (["reported"], "HOLD"), ([], "HOLD"),
])
def test_findings_make_one_of_three_answers(answers: list[str], expected: str) -> None:
    assert verdict([finding(answer) for answer in answers])[0] == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(-0.004, 0.1, "pass"), (-0.02, -0.01, "fail"), (-0.01, 0.01, "unclear")])
def test_not_worse_needs_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert non_inferior(low, high, 0.005) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.02, 0.1, "pass"), (-0.1, 0.005, "fail"), (0.0, 0.1, "unclear")])
def test_better_needs_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert superior(low, high, 0.01) == expected


def test_a_limit_is_held_by_the_bound_of_the_interval_not_by_the_figure() -> None:
    assert within(0.49, 0.7, 0.5, None) == "unclear"
    assert within(0.51, 0.7, 0.5, None) == "pass"
    assert within(0.51, 0.7, None, 0.6) == "unclear"


def frames(rng: np.random.Generator, rows: int, first: float, second: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    one, two = (pd.DataFrame({"right": (rng.random(rows) < chance).astype(np.float32)}) for chance in (first, second))
    return one, two


def metric(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"accuracy": accuracy(frame["right"].to_numpy(), weights)}


def test_the_interval_is_scipys_bca() -> None:
    rng = np.random.default_rng(3)
    frame, _ = frames(rng, 180, 0.9, 0.9)
    ours = Draws(pd.Series(range(180)), 4000, 1).measure(metric, {"a": frame}, "accuracy")["a"].interval(0.05)
    theirs = stats.bootstrap((frame["right"].to_numpy(),), np.mean, n_resamples=4000, confidence_level=0.9, method="BCa", rng=2).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_equal_models_are_called_better_at_most_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(11)
    wrong = 0
    for trial in range(200):
        one, two = frames(rng, 500, 0.8, 0.8)
        measured = Draws(pd.Series(range(500)), 400, trial).measure(metric, {"a": one, "b": two}, "accuracy")
        wrong += superior(*(measured["a"] - measured["b"]).interval(0.05), 0.0) == "pass"
    # 5 % and three Monte Carlo standard errors
    assert wrong / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_real_difference_is_found() -> None:
    one, two = frames(np.random.default_rng(5), 4000, 0.9, 0.8)
    measured = Draws(pd.Series(range(4000)), 400, 1).measure(metric, {"a": one, "b": two}, "accuracy")
    assert superior(*(measured["a"] - measured["b"]).interval(0.05), 0.0) == "pass"


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(7)
    target, answer = (pd.Series(rng.choice(list("abcdez"), 300)) for _ in range(2))
    weights = rng.integers(0, 4, size=(3, 300)).astype(np.float32)
    ours = macro_f1(target, answer, weights)
    for row, weight in enumerate(weights):
        labels = sorted(set(target[weight > 0]))
        assert ours[row] == pytest.approx(f1_score(target, answer, labels=labels, average="macro", sample_weight=weight), abs=1e-5)
    kind = pd.CategoricalDtype(list("abcdez"))
    assert macro_f1(target.astype(kind), answer.astype(kind), weights) == pytest.approx(ours)
