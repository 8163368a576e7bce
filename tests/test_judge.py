"""The verdict's truth table, and how sure a difference is."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.judge import calibration, permutation, reuse
from tasks.judge.__main__ import worn
from tasks.judge.resample import Range, Resamples, Reweighted, Units
from tasks.judge.series import diebold_mariano, long_run_variance
from tasks.judge.verdict import adjusted, answered, holm, spare, verdict
from tidemill.kit.metrics import macro_f1
from tidemill.records.receipts import Finding, Reuse


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
    assert answered(p_good, p_bad, 0.05, 0.05) == expected


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


SHARE = Range(0, 1)


def shares(right: np.ndarray, units: Units, resamples: int = 4000) -> Reweighted:
    """The share of 1 among rows, as the comparison measures it."""
    ratio = (right, np.ones(len(right)))
    sums = Resamples(units, resamples, 1).ratios({"a": {"m": ratio}})["m"]["a"]
    return Reweighted.of(sums, units, SHARE)


def paired(
    ours: np.ndarray, theirs: np.ndarray, units: Units, ways: int = permutation.SWAPS
) -> permutation.Swapped:
    one = np.ones(len(ours))
    return permutation.paired(
        permutation.of_ratio((ours, one), (theirs, one), units), units, 1, ways, SHARE
    )


@pytest.mark.parametrize(("rows", "wrong"), [(60, 0), (60, 1), (400, 8), (2000, 300)])
def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson(rows: int, wrong: int) -> None:
    right = np.ones(rows)
    right[:wrong] = 0
    measured = shares(right, Units(pd.Series(range(rows))), 40_000)
    exact = stats.binomtest(rows - wrong, rows).proportion_ci(0.9, "exact")
    assert measured.interval(0.05) == pytest.approx((exact.low, exact.high), abs=0.002)
    for value in (0.9, 0.95, 0.99):
        wanted = stats.binomtest(rows - wrong, rows, value, alternative="greater").pvalue
        assert measured.p_at_most(value) == pytest.approx(wanted, abs=0.006, rel=0.25)


def test_no_wrong_row_of_sixty_shows_no_more_than_the_rule_of_three() -> None:
    measured = shares(np.ones(60), Units(pd.Series(range(60))))
    assert measured.p_at_most(0.99) == pytest.approx(0.99**60, abs=0.02)
    assert measured.p_at_most(0.94) <= 0.05
    together = shares(np.ones(1200), Units(pd.Series(np.arange(1200) // 20)))
    assert together.p_at_most(0.99) == pytest.approx(0.99**60, abs=0.03), "sixty units, not rows"


def test_rows_that_err_one_by_one_count_alone_and_those_that_err_together_as_one() -> None:
    units = Units(pd.Series(np.arange(1000) // 10))
    random = np.random.default_rng(3)
    alone = (random.random(1000) < 0.1).astype(float)
    together = (random.random(100) < 0.1).astype(float)[units.codes]
    assert units.independent_rows(alone - alone.mean()) > 600
    assert units.independent_rows(together - together.mean()) == pytest.approx(100)
    assert units.independent_rows(np.zeros(1000)) == pytest.approx(100), "nothing is known"


def test_a_p_value_too_small_to_be_counted_is_read_off_a_curve() -> None:
    right = (np.arange(500) % 10 > 0).astype(float)
    measured = shares(right, Units(pd.Series(range(500))), 2000)
    exact = stats.binomtest(450, 500, 0.80, alternative="greater").pvalue
    assert exact < 1e-8
    assert np.log10(measured.p_at_most(0.80)) == pytest.approx(np.log10(exact), abs=1.5)


def test_a_p_value_is_the_alpha_whose_bound_it_is() -> None:
    random = np.random.default_rng(8)
    units = Units(pd.Series(range(400)))
    both = [(random.random(400) < chance).astype(float) for chance in (0.82, 0.8)]
    gap = shares(both[0], units) - shares(both[1], units)
    for alpha in (0.02, 0.05, 0.3):
        low, high = gap.interval(alpha)
        assert gap.p_at_most(low) == pytest.approx(alpha, abs=0.01)
        assert gap.p_at_least(high) == pytest.approx(alpha, abs=0.01)


def test_what_is_rounding_is_a_difference_to_neither_side() -> None:
    random = np.random.default_rng(3)
    right = (random.random(2000) < 0.93).astype(float)
    for count in (8, 1447):
        units = Units(pd.Series(np.arange(2000) % count))
        for off in (1e-9, -1e-9):
            by_swaps = paired(right + off, right, units, 200)
            weighted = shares(right + off, units) - shares(right, units)
            for gap in (by_swaps, -by_swaps, weighted, -weighted):
                assert gap.figure == 0.0
                assert gap.p_at_most(0.0) > 0.4, "rounding is no gain"
                if count > 100:
                    assert gap.p_at_most(-0.02) <= 0.05, "and no loss"


def test_too_few_units_cannot_make_a_claim() -> None:
    units = Units(pd.Series([0, 1, 2] * 100))
    assert paired(np.ones(300), np.zeros(300), units).p_at_most(0.0) >= 1 / 8


def test_swapping_is_exact_for_few_units() -> None:
    # Five units, each won: of 32 ways to swap them only the one that happened is as good.
    units = Units(pd.Series([0, 1, 2, 3, 4]))
    ours, theirs = np.array([3.0, 4, 5, 6, 7]), np.array([1.0, 2, 2, 3, 3])
    by_sums = paired(ours, theirs, units)
    assert len(by_sums.swapped) == 32
    assert (by_sums.swapped >= by_sums.figure - 1e-12).mean() == 1 / 32
    ask = permutation.of_rows(
        lambda frame, weights: {"m": weights @ frame["x"].to_numpy() / weights.sum(axis=1)},
        pd.DataFrame({"x": ours}),
        pd.DataFrame({"x": theirs}),
        "m",
        units,
    )
    assert permutation.paired(ask, units, 1).swapped == pytest.approx(by_sums.swapped, abs=1e-5)


def test_a_shift_turns_round_with_the_rows_that_are_swapped() -> None:
    # By hand: differences 1, 2 and 6, shifted by 1, are 0, 1 and 5; half of the signs are as good
    # as none swapped: the sign of 0 makes no difference, and 1 and 5 must both be kept.
    units = Units(pd.Series([0, 1, 2]))
    found = paired(np.array([1.0, 2, 6]), np.zeros(3), units)
    assert found._by_swaps(1.0) == 2 / 8
    assert found._by_swaps(0.0) == 1 / 8


def test_days_whose_errors_go_together_make_a_wider_interval() -> None:
    random = np.random.default_rng(4)
    shocks = random.normal(0, 1, 400)
    together = np.array([shocks[max(0, day - 4) : day + 1].sum() for day in range(400)])
    units = Units(pd.Series([f"{day:04d}" for day in range(400)]))
    one, none = np.ones(400), np.zeros(400)
    joined = diebold_mariano((together, one), (none, one), units)
    shuffled = diebold_mariano((random.permutation(together), one), (none, one), units)
    assert joined.error() > 1.6 * shuffled.error()
    assert joined.figure == pytest.approx(together.mean())
    # Of independent days it is the standard error of a mean.
    days = random.normal(0, 2, 5000)
    variance, degrees = long_run_variance(days)
    assert variance == pytest.approx(4, rel=0.25) and degrees == int(0.41 * 5000 ** (2 / 3))


def test_an_honest_model_is_shown_to_be_one_and_a_boasting_one_not() -> None:
    random = np.random.default_rng(6)
    confidence = 1 - 0.7 * random.beta(1.5, 6, 3000)
    units = Units(pd.Series(range(3000)))

    def claimed(chance: np.ndarray, bound: float) -> calibration.Claimed:
        right = (random.random(3000) < chance).astype(float)
        return calibration.Calibration(confidence, right, units, 500, 1).claimed(bound, 0.05, 0.05)

    honest, boasting = claimed(confidence, 0.05), claimed(confidence - 0.4, 0.05)
    assert honest.p_good <= 0.05 and honest.high < 0.05 and honest.low < 0.02
    assert boasting.p_bad <= 0.05 and boasting.low > 0.3 and boasting.p_good > 0.9
    assert honest.honest == pytest.approx(0.02, abs=0.01)


def test_the_error_measured_is_nixons() -> None:
    confidence, right = np.array([0.6, 0.6, 0.9, 0.9]), np.array([1.0, 0, 1, 1])
    assert calibration.expected_calibration_error(confidence, right, 2) == pytest.approx(0.1)


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


# Test rows that are asked again ---------------------------------------------------------------


def test_all_candidates_that_are_tried_on_the_same_rows_share_alpha() -> None:
    levels = [reuse.pass_level(0.05, tries) for tries in range(1, 100_000)]
    assert sum(levels) <= 0.05 and sum(levels) == pytest.approx(0.05, abs=1e-4)
    assert levels[0] == pytest.approx(0.0304, abs=1e-4)
    assert reuse.pass_level(0.05, 1.5) < levels[0], "half of the rows are worn"
    assert reuse.described(1.0) == "" and "asked 2.5 times" in reuse.described(2.5)


def test_the_worn_rows_are_told_beside_the_verdict() -> None:
    told = " ".join(worn([], Reuse(tries=4, asked=9), 0.05))
    assert "candidate 4 that is asked these test rows" in told and "0.0019" in told
    assert worn([], Reuse(), 0.05) == []
