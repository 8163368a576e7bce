"""The verdict's truth table, and how sure a difference is."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.judge import calibration, permutation
from tasks.judge.resample import Draws, Measured, Units
from tasks.judge.series import diebold_mariano
from tasks.judge.verdict import adjusted, answered, holm, spare, verdict
from tests.simulation import answers, difference, noise, promoted
from tidemill.kit.metrics import accuracy, macro_f1
from tidemill.records.receipts import Finding


def finding(answer: str) -> Finding:
    return Finding(
        gate="g", kind="limit", slice="all", metric="m", answer=answer, figure=1.0, reason="so"
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["pass"], "PROMOTE"),
        (["pass", "reported", "not applicable"], "PROMOTE"),
        (["pass", "unclear"], "HOLD"),
        (["unclear", "fail"], "REJECT"),
        (["pass", "fail"], "REJECT"),
        (["not applicable"], "HOLD"),
        (["reported"], "HOLD"),
        ([], "HOLD"),
    ],
)
def test_findings_make_one_of_three_answers(answers: list[str], expected: str) -> None:
    assert verdict([finding(answer) for answer in answers])[0] == expected


@pytest.mark.parametrize(
    ("p_good", "p_bad", "expected"),
    [
        (0.01, 0.99, "pass"),
        (0.05, 0.95, "pass"),
        (0.06, 0.94, "unclear"),
        (0.5, 0.5, "unclear"),
        (0.99, 0.05, "fail"),
        (0.99, 0.051, "unclear"),
        (float("nan"), float("nan"), "unclear"),
        (float("nan"), 0.01, "fail"),
    ],
)
def test_a_finding_needs_its_claim_or_the_contrary_shown(
    p_good: float, p_bad: float, expected: str
) -> None:
    assert answered(p_good, p_bad, 0.05) == expected


def test_the_words_of_a_verdict_name_where_and_why() -> None:
    failed = finding("fail").model_copy(update={"slice": "domain=udhr"})
    assert verdict([finding("pass"), failed]) == ("REJECT", "g of domain=udhr: so")
    assert verdict([finding("unclear")] * 5) == ("HOLD", "; ".join(["g: so"] * 3))
    near, far = (
        finding("pass").model_copy(
            update={"gate": name, "low": low, "high": low + 1.0, "bound": 0.0}
        )
        for name, low in (("near", 0.1), ("far", 3.0))
    )
    assert verdict([far, near, finding("pass")]) == (
        "PROMOTE",
        "all 3 findings passed, nearest to its bound near: so",
    )
    assert verdict([finding("not applicable")])[1] == "no gate had anything to judge"
    assert verdict([finding("pass")]) == ("PROMOTE", "all 1 findings passed")


def test_spare_room_is_counted_in_widths_of_the_interval() -> None:
    item = finding("pass")
    assert spare(item) is None
    for missing in ("low", "high", "bound"):
        assert (
            spare(item.model_copy(update={"low": 1.0, "high": 2.0, "bound": 0.0} | {missing: None}))
            is None
        )
    assert spare(item.model_copy(update={"low": 1.0, "high": 3.0, "bound": 0.0})) == 0.5
    assert spare(item.model_copy(update={"low": 1.0, "high": 3.0, "bound": 4.0})) == 0.5
    assert spare(item.model_copy(update={"low": 1.0, "high": 1.0, "bound": 0.0})) is None


def test_holm_is_statsmodels_textbook_example() -> None:
    # Holm 1979: ordered p times the number of claims left, never below an earlier one.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


def test_only_claims_that_any_slice_may_make_are_corrected() -> None:
    good, bad = [0.03, 0.04], [0.03, 0.9]
    assert adjusted("no_worse", good, bad) == ([0.03, 0.04], [0.06, 0.9])
    assert adjusted("better", good, bad)[0] == [0.06, 0.06]


def frames(
    rng: np.random.Generator, rows: int, first: float, second: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    one, two = (
        pd.DataFrame({"right": (rng.random(rows) < chance).astype(np.float32)})
        for chance in (first, second)
    )
    return one, two


def metric(frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"accuracy": accuracy(frame["right"].to_numpy(), weights)}


def test_the_interval_is_scipys_bca() -> None:
    rng = np.random.default_rng(3)
    frame, _ = frames(rng, 180, 0.9, 0.9)
    ours = (
        Draws(Units(pd.Series(range(180))), 4000, 1)
        .measure(metric, {"a": frame}, "accuracy")["a"]
        .interval(0.05)
    )
    theirs = stats.bootstrap(
        (frame["right"].to_numpy(),),
        np.mean,
        n_resamples=4000,
        confidence_level=0.9,
        method="BCa",
        rng=2,
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)


SETTINGS = [
    (500, None),
    (2000, None),
    (10_000, None),
    (2000, 3),
    (2000, 10),
    (2000, 30),
    (10_000, 300),
]


@pytest.mark.parametrize(
    ("rows", "count"), [(500, None), (2000, 3), (2000, 10), (2000, 30), (2000, 300)]
)
def test_equal_models_are_called_better_at_most_as_often_as_alpha_says(
    rows: int, count: int | None
) -> None:
    assert promoted(rows, count, 200, 500) <= 0.05 + noise(200)


@pytest.mark.system
@pytest.mark.parametrize(("rows", "count"), SETTINGS)
def test_equal_models_are_called_better_at_most_as_often_as_alpha_says_over_2000_pairs(
    rows: int, count: int | None
) -> None:
    assert promoted(rows, count, 2000, 2000) <= 0.05 + noise(2000)


def test_a_true_difference_is_found_as_often_as_the_formula_says() -> None:
    random = np.random.default_rng(17)
    found, sizes = 0, []
    for pair in range(300):
        both = random.random((2, 1500)) < np.array([[0.85], [0.80]])
        measured = difference(Units(pd.Series(range(1500))), *both.astype(float), 500, pair)
        found += measured.p_at_most(0.0) <= 0.05
        sizes.append(measured.error())
    expected = stats.norm.cdf(0.05 / np.mean(sizes) - stats.norm.ppf(0.95))
    assert found / 300 == pytest.approx(expected, abs=0.05 + noise(300, expected) / 3)


def test_ten_slices_without_effect_raise_a_false_alarm_at_most_as_often_as_alpha_says() -> None:
    random = np.random.default_rng(23)
    alarms = 0
    for night in range(200):
        p_bad = []
        for part in range(10):
            codes, ours, theirs = answers(random, 300, None)
            p_bad.append(
                difference(
                    Units(pd.Series(codes)), ours, theirs, 400, night * 10 + part
                ).p_at_least(0.0)
            )
        alarms += min(adjusted("no_worse", [1.0] * 10, p_bad)[1]) <= 0.05
    assert alarms / 200 <= 0.05 + noise(200)


def test_too_few_units_cannot_make_a_claim() -> None:
    units = Units(pd.Series([0, 1, 2] * 100))
    ours, theirs = np.ones(300), np.zeros(300)
    assert difference(units, ours, theirs, 100, 1).p_at_most(0.0) >= 1 / 8


def test_swapping_is_exact_for_few_units() -> None:
    # Five units, each won: of 32 ways to swap them only the one that happened is as good.
    units = Units(pd.Series([0, 1, 2, 3, 4]))
    ours, theirs = np.array([3.0, 4, 5, 6, 7]), np.array([1.0, 2, 2, 3, 3])
    found = permutation.paired(
        permutation.of_ratio((ours, np.ones(5)), (theirs, np.ones(5)), units), units, 1
    )
    assert len(found.swapped) == 32
    assert (found.swapped >= found.figure - 1e-12).mean() == 1 / 32
    assert permutation.paired(
        permutation.of_rows(
            lambda frame, weights: {"m": weights @ frame["x"].to_numpy() / weights.sum(axis=1)},
            pd.DataFrame({"x": ours}),
            pd.DataFrame({"x": theirs}),
            "m",
            units,
        ),
        units,
        1,
    ).swapped == pytest.approx(found.swapped, abs=1e-5)


def test_a_ratio_is_resampled_as_the_same_metric_by_rows() -> None:
    one, _ = frames(np.random.default_rng(2), 600, 0.7, 0.7)
    draws = Draws(Units(pd.Series(np.arange(600) % 250)), 300, 1)
    by_rows = draws.measure(metric, {"a": one}, "accuracy")["a"]
    by_sums = draws.ratios({"a": {"accuracy": (one["right"].to_numpy(), np.ones(600))}})[
        "accuracy"
    ]["a"]
    assert by_sums.resampled == pytest.approx(by_rows.resampled, abs=1e-5)
    assert by_sums.left_out == pytest.approx(by_rows.left_out, abs=1e-5)


def test_a_p_value_is_the_alpha_whose_bound_it_is() -> None:
    one, two = frames(np.random.default_rng(8), 400, 0.82, 0.8)
    measured = Draws(Units(pd.Series(range(400))), 4000, 1).measure(
        metric, {"a": one, "b": two}, "accuracy"
    )
    gap = measured["a"] - measured["b"]
    for alpha in (0.02, 0.05, 0.3):
        assert gap.p_at_most(gap.quantile(alpha)) == pytest.approx(alpha, abs=0.02)
        assert gap.p_at_least(gap.quantile(1 - alpha)) == pytest.approx(alpha, abs=0.02)


def test_days_whose_errors_go_together_make_a_wider_interval() -> None:
    random = np.random.default_rng(4)
    shocks = random.normal(0, 1, 400)
    together = np.array([shocks[max(0, day - 4) : day + 1].sum() for day in range(400)])
    units = Units(pd.Series([f"{day:04d}" for day in range(400)]))
    one, none = np.ones(400), np.zeros(400)
    assert (
        diebold_mariano((together, one), (none, one), units).error()
        > 1.7 * diebold_mariano((random.permutation(together), one), (none, one), units).error()
    )
    # By hand for four days and no lag: mean 2.5, variance 1.25, times (4 + 1 - 2) / 4.
    small = diebold_mariano(
        (np.array([1.0, 2, 3, 4]), np.ones(4)),
        (np.zeros(4), np.ones(4)),
        Units(pd.Series(list("abcd"))),
    )
    lag = (
        2 * (1 - 1 / 2) * np.array([-0.5, 0.5, 1.5]) @ np.array([-1.5, -0.5, 0.5]) / 4
        if int(4 * 0.04 ** (2 / 9))
        else 0.0
    )
    assert (small.figure, small.error()) == pytest.approx(
        (2.5, ((1.25 + lag) / 4 / (3 / 4)) ** 0.5)
    )


def test_an_honest_model_shows_the_error_of_its_sample_and_no_more() -> None:
    random = np.random.default_rng(6)
    confidence = 1 - 0.7 * random.beta(1.5, 6, 500)
    assert calibration.null(confidence, 300, 1).mean() == pytest.approx(0.044, abs=0.004)
    units = Units(pd.Series(range(500)))
    honest = calibration.excess(
        confidence, (random.random(500) < confidence).astype(float), units, 200, 200, 1, 0.05
    )
    boasting = calibration.excess(
        confidence, (random.random(500) < confidence - 0.4).astype(float), units, 200, 200, 1, 0.05
    )
    assert honest[1] < 0 < honest[2] or abs(honest[0]) < 0.03
    assert boasting[1] > 0.2 and boasting[3] < 0.01


def test_a_real_difference_is_found() -> None:
    one, two = frames(np.random.default_rng(5), 4000, 0.9, 0.8)
    measured = Draws(Units(pd.Series(range(4000))), 400, 1).measure(
        metric, {"a": one, "b": two}, "accuracy"
    )
    assert (measured["a"] - measured["b"]).p_at_most(0.0) <= 0.05


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(7)
    target, answer = (pd.Series(rng.choice(list("abcdez"), 300)) for _ in range(2))
    weights = rng.integers(0, 4, size=(3, 300)).astype(np.float32)
    ours = macro_f1(target, answer, weights)
    for row, weight in enumerate(weights):
        labels = sorted(set(target[weight > 0]))
        assert ours[row] == pytest.approx(
            f1_score(target, answer, labels=labels, average="macro", sample_weight=weight), abs=1e-5
        )
    kind = pd.CategoricalDtype(list("abcdez"))
    assert macro_f1(target.astype(kind), answer.astype(kind), weights) == pytest.approx(ours)


def test_a_difference_that_is_nought_but_for_rounding_is_no_bias_and_no_gain() -> None:
    random = np.random.default_rng(3)
    right = (random.random(2000) < 0.93).astype(float)
    changed = right.copy()
    changed[:1] = 1 - changed[:1]  # what a perturbation does to both models alike
    frames = {
        name: pd.DataFrame({"right": rows})
        for name, rows in {"a": right, "a~": changed, "b": right * 1.0, "b~": changed * 1.0}.items()
    }
    frames["b"] += 1e-9  # sums in another order, as two models' are
    draws = Draws(Units(pd.Series(np.arange(2000) % 1447)), 400, 1)
    found = draws.measure(
        lambda frame, weights: {"accuracy": accuracy(frame["right"].to_numpy(np.float32), weights)},
        frames,
        "accuracy",
    )
    for change in (
        found["a"] - found["b"],
        (found["a~"] - found["b~"]) - (found["a"] - found["b"]),
    ):
        noisy = Measured(
            change.figure + 3e-9, change.resampled - 8.8e-9, change.left_out, scale=change.scale
        )
        assert noisy.surrounded() and noisy.sound()
        assert noisy.p_at_most(-0.02) == 0.0, "not worse by two hundredths"
    gone = found["a"] - found["b"]
    assert gone.figure == 0.0 and gone.p_at_most(0.0) == 1.0, "rounding is no gain"
