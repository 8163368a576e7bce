"""Series: nothing of the future in a question, and promoted only with skill.

Also walk-forward, and bad feeds refused.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from benchmarks import results
from recipes.stocks.windows import label
from tests.conftest import Clone, make_clone
from tests.support.splits import halved
from tidemill import contract
from tidemill.contract import Splits
from tidemill.runtime.errors import Refused

DAYS = pd.bdate_range("2020-01-01", periods=60).strftime("%Y-%m-%d").tolist()
WINDOW = 10


def series(seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, len(DAYS))))
    open_ = close * np.exp(random.normal(0, 0.005, len(DAYS)))
    return pd.DataFrame(
        {
            "Date": DAYS,
            "Open": open_,
            "High": np.maximum(open_, close) * 1.01,
            "Low": np.minimum(open_, close) * 0.99,
            "Close": close,
            "Volume": random.integers(10**5, 10**6, len(DAYS)),
            "Adj Close": close * 0.9,
        }
    )


def examples(frame: pd.DataFrame) -> pd.DataFrame:
    document = {"doc_id": "d", "part": "X", "payload": frame.to_csv(index=False).encode()}
    return label(pd.DataFrame([document]), WINDOW, {})


def test_scrambling_the_future_changes_nothing_before_it() -> None:
    whole, cut = series(), 35
    scrambled = whole.copy()
    scrambled.iloc[cut:, 1:] = whole.iloc[cut:, 1:].sample(frac=1, random_state=2).to_numpy() * 3
    one, two = examples(whole).set_index("unit"), examples(scrambled).set_index("unit")
    before = [day for day in one.index if day < DAYS[cut]]
    assert len(before) == cut - WINDOW
    columns = ["inputs", "target", "slices", "dropped"]
    pd.testing.assert_frame_equal(one.loc[before, columns], two.loc[before, columns])
    assert (
        one.loc[DAYS[cut], "inputs"] == two.loc[DAYS[cut], "inputs"]
        and one.loc[DAYS[cut], "target"] != two.loc[DAYS[cut], "target"]
    )


def test_a_later_split_leaves_no_trace_and_a_split_is_no_fall() -> None:
    whole = series()
    later = whole.assign(
        **{"Adj Close": whole["Adj Close"] / 4}
    )  # as the source would tell it after a later split of four for one
    for one, two in zip(examples(whole)["inputs"], examples(later)["inputs"], strict=True):
        one, two = json.loads(one), json.loads(two)
        assert one["dates"] == two["dates"] and one["close"] == pytest.approx(
            two["close"], rel=1e-5
        )
    halved_price = whole.copy()
    halved_price.loc[30:, ["Open", "High", "Low", "Close"]] /= (
        2  # two for one on that day; the adjusted close knows
    )
    returns = [json.loads(item)["returns"]["close"] for item in examples(halved_price)["target"]]
    assert max(map(abs, returns)) < 0.2


def test_days_that_cannot_be_and_gaps_are_left_out_with_the_reason() -> None:
    broken = series()
    broken.loc[20, "Low"] = -1.0
    found = examples(broken)
    assert (found["dropped"] == "a day that cannot be").sum() == WINDOW + 1
    found = examples(series().drop(index=range(30, 38)))
    assert (found["dropped"] == "a gap of more than 7 days").sum() == WINDOW
    assert examples(series().head(WINDOW))["dropped"].tolist() == [
        f"a series of no more than {WINDOW} days"
    ]
    wrong = series().astype(object)
    wrong.loc[3, "Close"] = "n/a"
    assert examples(wrong)["dropped"].tolist() == ["line 5 is not of a date and numbers"]


GOOD = {name: [10.0] * 9 for name in ("open", "high", "low", "close", "volume")} | {
    "dates": DAYS[:9]
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"close": [10.0]}, "as many rows as close"),
        (
            {name: [10.0] for name in ("open", "high", "low", "close", "volume")} | {"dates": None},
            "a series of 1 day; at least 8",
        ),
        ({"low": [*[10.0] * 8, -3.0]}, "low of row 9 is -3"),
        ({"open": [float("nan"), *[10.0] * 8]}, "open of row 1 is nan"),
        ({"volume": [-1.0, *[10.0] * 8]}, "volume of row 1 is -1"),
        ({"high": [*[10.0] * 8, 9.0]}, "row 9 has high 9"),
        ({"dates": [*DAYS[:8], "2021-01-01"]}, "a gap of more than 7"),
        ({"dates": [*DAYS[:8], DAYS[0]]}, "the days must rise"),
        ({"adjusted": [0.0, *[10.0] * 8]}, "adjusted of row 1 is 0"),
    ],
)
def test_a_bad_series_is_refused_in_one_line(change: dict, said: str) -> None:
    kind = contract.application("stocks").Input
    kind.model_validate(GOOD)
    with pytest.raises(ValidationError) as refusal:
        kind.model_validate(GOOD | change)
    [problem] = refusal.value.errors()
    assert said in problem["msg"] and "\n" not in problem["msg"]


def test_the_last_close_has_no_skill_and_a_prophet_has_all() -> None:
    from recipes.stocks.examples import answers, frame

    rows = examples(series()).assign(part="X")
    true = answers(rows)
    application, weights = contract.application("stocks"), np.ones((1, len(rows)))
    for told, skill in (
        (np.zeros((*true.shape, 3)), 0.0),
        (np.repeat(true[:, :, None], 3, axis=2), 1.0),
    ):
        found = application.metric(frame(rows, told), weights)
        assert [
            float(found[name][0]) for name in ("skill", "skill_high", "skill_close")
        ] == pytest.approx([skill] * 3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(tmp_path_factory.mktemp("stocks") / "clone")


def test_no_network_sees_a_day_of_the_fold_that_judges_it(small: Clone) -> None:
    splits = halved(small, "stocks")
    train, valid, test = (
        pd.read_parquet(splits / f"{part}.parquet") for part in ("train", "valid", "test")
    )
    assert (
        train["unit"].max() < "2008-05-17" < valid["unit"].min()
        and valid["unit"].max() < "2010-05-17" < test["unit"].min()
    )
    learner: Any = contract.load("stocks")(folds=3, embargo=45).learner(Splits(splits, 1))
    data = learner.data
    days = np.array([*train["unit"], *valid["unit"]])
    assert data.seen[:, 0].all() and len(data.folds) == 3
    for number, (first, last) in enumerate(data.folds, 1):
        seen = days[data.seen[:, number].numpy()]
        assert (
            len(seen)
            and pd.Timestamp(str(max(seen))) < pd.Timestamp(first) - pd.Timedelta(days=45)
            and first <= last
        )
    assert [first for first, _ in data.folds] == sorted(first for first, _ in data.folds)


@pytest.mark.apps
def test_the_whole_flow_on_series_promotes_skill_and_its_row_is_told(small: Clone) -> None:
    done = small.tidemill("run", "stocks", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    ended = json.loads(done.stdout)
    assert ended["state"] == "Promoted", ended["because"]
    [explained] = small.folder.glob(".tidemill/runs/*/explained.json")
    assert len(json.loads(explained.read_text())) >= 10, (
        "rows worth a look, also where the recipe explains nothing"
    )
    told = results.row("stocks", small.folder)
    assert (
        told
        and told["metric"] == "skill"
        and told["key"] == ended["key"]
        and told["low"] < told["candidate"] < told["high"]
    )
    simpler = told["simpler"]
    assert simpler["model"] in ("baseline", "linear"), "the best of all, not the one of the gates"
    assert told["candidate"] - simpler["figure"] == pytest.approx(simpler["gain"], abs=2e-4)
    assert simpler["low"] < simpler["gain"] < simpler["high"]
    assert "| `stocks` |" in results.table([told]) and results.row("images", small.folder) is None


@pytest.mark.apps
def test_without_skill_nothing_is_promoted(small: Clone) -> None:
    """The same network, whose first step is so long that it forgets the window's own days."""
    done = small.tidemill("run", "stocks", "model.lr=1.0", "trainer.max_epochs=1", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["state"] in ("Rejected", "Held")


def test_the_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = f"head\n{results.BEGIN}\nold\n{results.END}\ntail\n"
    assert results.placed(page, "new") == f"head\n{results.BEGIN}\nnew\n{results.END}\ntail\n"
    with pytest.raises(Refused, match="no place for the table"):
        results.placed("head\n", "new")
