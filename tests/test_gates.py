"""What each kind of gate finds, on frames as `score` leaves them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.judge.comparison import Bench, Where
from tasks.judge.gates import ask
from tasks.judge.verdict import verdict
from tidemill import contract
from tidemill.engines.config.schema import Gate, Score
from tidemill.families.classifier import frame
from tidemill.records.receipts import Exported, Scored
from tidemill.runtime.errors import Fault

ROWS = 1200
LATENCY = {
    "p50_ms": 1.0,
    "p95_ms": 2.0,
    "p99_ms": 3.0,
    "p95_low_ms": 1.8,
    "p95_high_ms": 2.2,
    "per_second": 900.0,
    "memory_mb": 80.0,
}


def answers(random: np.random.Generator, right: float, targets: np.ndarray) -> pd.DataFrame:
    given = np.where(random.random(ROWS) < right, targets, "zzz")
    return frame(targets, given, np.where(given == targets, 0.2, 2.0)).assign(
        confidence=np.full(ROWS, right)
    )


def bench(
    champion: float | None = 0.8, candidate: float = 0.8, units: int = ROWS, **more: Any
) -> Bench:
    random = np.random.default_rng(5)
    targets = random.choice(["deu", "eng", "fra"], ROWS)
    made = object.__new__(Bench)
    made.recipe, made.settings, made.seed = (
        contract.application("languages"),
        Score(resamples=500, min_rows=100, slices=("domain", "length")),
        1,
    )
    made.scored = Scored(
        frames={},
        champion=None if champion is None else "1",
        rows=ROWS,
        latency={"candidate": LATENCY, "champion": LATENCY} if champion else {"candidate": LATENCY},
        drift=more.pop("drift", {}),
    )
    made.exported = Exported(
        package="", digest="", files={}, parity=more.pop("parity", 1e-6), bytes=10_000_000
    )
    made.frames = {
        "candidate": answers(random, candidate, targets),
        "trivial": answers(random, 0.3, targets),
        "baseline": answers(random, 0.7, targets),
        "overlap": pd.DataFrame(
            {
                "exact": [False] * ROWS,
                "run": [False] * (ROWS - 6) + [True] * 6,
                "near": [False] * ROWS,
            }
        ),
    }
    if champion is not None:
        made.frames["champion"] = answers(random, champion, targets)
    made.rows = pd.DataFrame(
        {
            "example_id": range(ROWS),
            "unit": np.arange(ROWS) % units,
            "domain": ["a"] * 700 + ["b"] * 450 + ["c"] * 50,
            "length": ["long", "short"] * (ROWS // 2),
        }
    )
    made.frames |= more
    return settled(made)


def settled(made: Bench) -> Bench:
    made.answered = {
        name: item.notna().all(axis=1).to_numpy() for name, item in made.frames.items()
    }
    made.all = Where("all", np.arange(ROWS), required=True)
    made._units, made._measured = {}, {}
    return made


def gate(kind: str, **more: Any) -> Gate:
    return Gate(name="g", kind=kind, why="a test", **more)  # type: ignore[arg-type]


def told(found: list) -> list[tuple[str, str]]:
    return [(item.slice, item.answer) for item in found]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"at_least": 0.7}, "pass"),
        ({"at_least": 0.8}, "unclear"),
        ({"at_least": 0.9}, "fail"),
        ({"at_most": 0.9}, "pass"),
        ({"at_most": 0.7}, "fail"),
    ],
)
def test_a_limit_asks_the_bound_of_the_interval(more: dict, expected: str) -> None:
    assert told(ask(gate("limit", metric="accuracy", **more), bench())) == [("all", expected)]


@pytest.mark.parametrize(
    ("candidate", "kind", "margin", "expected"),
    [
        (0.8, "no_worse", 0.06, "pass"),
        (0.8, "no_worse", 0.001, "unclear"),
        (0.6, "no_worse", 0.06, "fail"),
        (0.9, "better", 0.0, "pass"),
        (0.8, "better", 0.0, "unclear"),
        (0.6, "better", 0.0, "fail"),
    ],
)
def test_two_models_are_compared_on_the_same_rows(
    candidate: float, kind: str, margin: float, expected: str
) -> None:
    found = ask(gate(kind, metric="accuracy", margin=margin), bench(candidate=candidate))
    assert told(found) == [("all", expected)]
    assert found[0].detectable and "McNemar" in found[0].reason
    if expected == "unclear":
        assert "not enough evidence" in found[0].reason


def test_a_lower_loss_is_better() -> None:
    assert told(ask(gate("better", metric="log_loss"), bench(candidate=0.95))) == [("all", "pass")]
    assert told(ask(gate("limit", metric="log_loss", at_most=0.1), bench())) == [("all", "fail")]


def test_without_a_champion_comparing_is_not_applicable_and_sane_decides() -> None:
    alone = bench(champion=None)
    found = [
        item
        for kind in ("no_worse", "better", "sane", "robust")
        for item in ask(gate(kind, metric="accuracy"), settled(alone))
        if kind != "robust"
    ] + ask(gate("drift", at_most=0.2), alone)
    assert [item.answer for item in found] == [
        "not applicable",
        "not applicable",
        "pass",
        "not applicable",
    ]
    assert verdict(found)[0] == "PROMOTE"
    assert verdict([item for item in found if item.answer != "pass"])[0] == "HOLD"


def test_small_slices_are_pooled_and_a_required_one_that_is_empty_holds() -> None:
    found = ask(
        gate("no_worse", metric="accuracy", margin=0.2, by="domain", required=["d"]), bench()
    )
    assert told(found) == [
        ("domain=d", "unclear"),
        ("domain=a", "pass"),
        ("domain=b", "pass"),
        ("domain=small slices together", "pass"),
    ]
    assert "1 slices under 100 rows" in found[-1].reason
    assert verdict(found)[0] == "HOLD"
    crossed = ask(
        gate(
            "no_worse", metric="accuracy", margin=0.2, by=["domain", "length"], required=["a, long"]
        ),
        bench(),
    )
    assert [item.slice for item in crossed][:2] == [
        "domain+length=a, long",
        "domain+length=a, short",
    ]


def test_a_slice_that_is_not_required_and_undecided_is_reported_and_holds_nothing_up() -> None:
    found = ask(gate("no_worse", metric="accuracy", margin=0.001, by="domain"), bench())
    assert {item.answer for item in found} == {"reported"}


def test_few_units_are_asked_otherwise_and_fewer_make_no_claim() -> None:
    assert told(ask(gate("better", metric="accuracy"), bench(candidate=0.95, units=8))) == [
        ("all", "pass")
    ]
    few = ask(gate("better", metric="accuracy"), bench(candidate=0.99, units=5))
    assert few[0].answer == "unclear" and "too few for a claim" in few[0].reason
    one = ask(gate("limit", metric="macro_f1", at_least=0.5), bench(units=1))
    assert one[0].answer == "unclear"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_never_passes(bad: float) -> None:
    made = bench()
    made.frames["candidate"].loc[3, "loss"] = bad
    found = [
        item
        for kind in ("limit", "no_worse")
        for item in ask(
            gate(
                kind,
                metric="log_loss",
                **({"at_most": 9.0} if kind == "limit" else {"margin": 9.0}),
            ),
            settled(made),
        )
    ]
    assert [item.answer for item in found] == ["fail", "fail"]
    assert verdict(found)[0] == "REJECT"


def test_a_champion_that_could_not_answer_holds() -> None:
    made = bench()
    del made.frames["champion"]
    made.scored = made.scored.model_copy(
        update={"skipped": {"champion": "version 1: its package is damaged"}}
    )
    found = ask(gate("no_worse", metric="accuracy", margin=0.5), settled(made))
    assert found[0].answer == "unclear" and "damaged" in found[0].reason


def test_a_metric_nobody_has_is_named() -> None:
    with pytest.raises(Fault, match="no metric 'bleu'; the recipe has macro_f1"):
        ask(gate("limit", metric="bleu", at_least=0.1), bench())
    with pytest.raises(Fault, match="no slice column 'planet'"):
        ask(gate("no_worse", metric="accuracy", by="planet"), bench())


def test_robust_compares_what_a_perturbation_takes_from_either() -> None:
    made = bench(candidate=0.9)
    random = np.random.default_rng(9)
    targets = made.frames["candidate"]["target"].astype(str).to_numpy()
    made.frames |= {
        "candidate~typos": answers(random, 0.5, targets),
        "champion~typos": answers(random, 0.78, targets),
    }
    worse = ask(gate("robust", metric="accuracy", margin=0.02), settled(made))
    assert told(worse) == [("perturbation=typos", "fail")]
    assert told(ask(gate("robust", metric="accuracy", at_most=0.6), made)) == [
        ("perturbation=typos", "pass")
    ]
    assert told(ask(gate("robust", metric="accuracy", at_most=0.1), made)) == [
        ("perturbation=typos", "fail")
    ]
    assert ask(gate("robust", metric="accuracy", margin=0.02), bench())[0].answer == "unclear"


def test_calibrated_asks_the_error_beyond_an_honest_models() -> None:
    assert told(ask(gate("calibrated", at_most=0.05), bench())) == [("all", "pass")]
    boasting = bench()
    boasting.frames["candidate"]["confidence"] = 0.99
    assert told(ask(gate("calibrated", at_most=0.05), settled(boasting))) == [("all", "fail")]
    silent = bench()
    silent.frames["candidate"] = silent.frames["candidate"].drop(columns="confidence")
    assert told(ask(gate("calibrated", at_most=0.05), settled(silent))) == [("all", "fail")]


def test_figures_without_a_sampling_error_meet_their_bounds() -> None:
    assert told(ask(gate("fast", at_most=2.5), bench())) == [("all", "pass")]
    assert told(ask(gate("fast", at_most=2.0), bench())) == [("all", "unclear")]
    assert told(ask(gate("fast", at_most=1.0), bench())) == [("all", "fail")]
    assert told(ask(gate("fast", margin=0.2), bench())) == [("all", "pass")]
    assert told(ask(gate("small", at_most=10), bench())) == [("all", "pass")]
    assert told(ask(gate("small", metric="memory", at_most=10), bench())) == [("all", "fail")]
    assert told(ask(gate("same", at_most=1e-4), bench())) == [("all", "pass")]
    assert told(ask(gate("same", at_most=1e-4), bench(parity=float("nan")))) == [("all", "fail")]
    assert told(ask(gate("clean", at_most=0.005), bench())) == [("all", "pass")]
    assert told(ask(gate("clean", at_most=0.004), bench())) == [("all", "fail")]


def test_drift_is_a_question_for_a_person_and_a_warning_stops_nothing() -> None:
    moved = {"target": 0.4, "length": 0.01, "classifier": 0.9}
    assert told(ask(gate("drift", at_most=0.25), bench(drift=moved))) == [("all", "unclear")]
    assert told(ask(gate("drift", at_most=0.25, action="warn"), bench(drift=moved))) == [
        ("all", "reported")
    ]
    assert told(ask(gate("drift", at_most=0.5), bench(drift=moved))) == [("all", "pass")]
    assert told(ask(gate("drift", at_most=0.25), bench())) == [("all", "unclear")]


def test_one_class_alone_can_be_judged() -> None:
    made = bench()
    one = np.array(["deu"] * ROWS)
    made.frames |= {
        name: answers(np.random.default_rng(2), 0.8, one) for name in ("candidate", "champion")
    }
    assert ask(gate("no_worse", metric="macro_f1", margin=0.2), settled(made))[0].answer == "pass"


def test_psi_is_nothing_for_equal_rows_and_large_for_others() -> None:
    from tasks.score.drift import psi

    random = np.random.default_rng(3)
    same = [pd.Series(random.choice(list("abc"), 3000)) for _ in range(2)]
    assert psi(*same) < 0.01
    assert psi(same[0], pd.Series(random.choice(list("abc"), 3000, p=[0.8, 0.1, 0.1]))) > 0.5
    # By hand: shares .5/.5 against .25/.75 of many rows, .25 ln .5 ... = .1373 + .1373
    assert psi(
        pd.Series(["a", "b"] * 50_000), pd.Series(["a", "b", "b", "b"] * 25_000)
    ) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), abs=1e-3)


def test_overlap_names_what_training_saw() -> None:
    import json

    from tasks.score.overlap import overlap

    long = (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    )

    def rows(*texts: str) -> pd.DataFrame:
        return pd.DataFrame(
            {"inputs": [json.dumps({"text": text}) for text in texts], "target": ["t"] * len(texts)}
        )

    found = overlap(
        rows("a b c", long),
        rows("a b c", f"before {long} and after that some more words", "nothing of it"),
        0.8,
    )
    assert found["exact"].tolist() == [True, False, False]
    assert found["run"].tolist() == [False, True, False]
