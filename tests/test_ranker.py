"""Rankers of one's own: how ratings become histories, what is recommended, and what is refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.split.last import last
from tests.conftest import Clone
from tests.support.hardware import HARDWARE
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import SplitRule, Trainer
from tidemill.families.ranker import drawn
from tidemill.families.ranker.application import Ranking
from tidemill.families.ranker.catalogue import Catalogue, Weighting, known_history
from tidemill.families.ranker.examples import AGAIN, label
from tidemill.families.ranker.fields import RankerRecipe
from tidemill.families.ranker.learner import RankerLearner
from tidemill.families.ranker.predictor import RankerPredictor
from tidemill.families.ranker.schema import UserHistory
from tidemill.runtime.errors import Refused

OPTIONS: dict[str, object] = {
    "user": "user",
    "item": "item",
    "time": "time",
    "rating": "rating",
    "lowest": 1,
    "highest": 5,
}
UNWEIGHTED = Weighting(memory=0, floor=1, liked=0, disliked=1)


def ratings(user: str, items: str, **changed: object) -> list[dict[str, object]]:
    """A rating of 4 for each letter, one after the other."""
    return [
        {"user": user, "item": item, "time": at, "rating": 4, **changed}
        for at, item in enumerate(items)
    ]


def documents(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "doc_id": [f"d{at:04}" for at in range(len(rows))],
            "payload": [json.dumps(row).encode() for row in rows],
        }
    )


TWO = [*ratings("ann", "abcdefghij"), *ratings("bob", "jihgfedcbazyx")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = tmp_path_factory.mktemp("splits")
    for part, frame in drawn.splits().items():
        frame.to_parquet(splits / f"{part}.parquet")
    return splits


@pytest.fixture(scope="module")
def package(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    learner = RankerRecipe.model_validate(drawn.FIELDS).learner(Splits(folder, 1))
    learner.fit(Run(Trainer(**HARDWARE), 1, 1, "test"))
    package = tmp_path_factory.mktemp("package")
    assert learner.export(package) < 1e-5
    return package


@pytest.fixture(scope="module")
def predictor(package: Path) -> RankerPredictor:
    return RankerPredictor(package)


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.sampled_from("ABCD"), st.integers(10, 40), min_size=2))
def test_a_users_last_ratings_are_the_test_and_nothing_later_is_trained_on(
    counts: dict[str, int],
) -> None:
    rows = [
        {"user": user, "item": f"i{at}", "time": at, "rating": 3}
        for user, count in counts.items()
        for at in range(count)
    ]
    examples = label(documents(rows), OPTIONS)
    assert examples["dropped"].isna().all()
    rule = SplitRule.model_validate(
        {"source": "s", "by": "last", "column": "unit", "order": "step"}
    )
    where = last(rule, examples.assign(example_id=examples.index.astype(str)), examples["unit"])
    for _, own in examples.assign(part=where).groupby("unit"):
        assert sorted(own["part"]) == ["test", "train", "valid"]
        parts = own.set_index("part")
        asked = {part: json.loads(parts["inputs"][part])["history"] for part in parts.index}
        told = {part: json.loads(parts["target"][part])["items"] for part in parts.index}
        assert asked["train"] + told["train"] == asked["valid"] and all(told.values())
        assert asked["valid"] + told["valid"] == asked["test"]
        assert len(set(asked["test"] + told["test"])) == counts[str(own["unit"].iloc[0])]


def test_what_is_no_rating_is_counted_with_its_reason() -> None:
    rows = [
        *TWO,
        {"user": "ann", "item": "a", "time": 99, "rating": 2},
        {"user": "ann", "item": "q", "time": 1, "rating": 7},
        {"user": "ann", "item": "q", "time": "soon", "rating": 3},
        {"user": "ann", "item": "q", "time": 1, "rating": "good"},
        {"user": "ann", "item": "q", "time": 1, "rating": float("nan")},
        {"user": None, "item": "q", "time": 1, "rating": 3},
        {"user": "ann", "item": " ", "time": 1, "rating": 3},
        *ratings("cy", "abc"),
    ]
    examples = label(documents(rows), OPTIONS)
    assert examples["dropped"].value_counts().to_dict() == {
        AGAIN: 1,
        "its rating is outside 1 to 5": 1,
        "its time is neither a number nor ISO 8601": 1,
        "its rating is no number": 2,
        "no user": 1,
        "no item": 1,
        "of a user with fewer than 10 ratings": 3,
    }
    ann = examples[(examples["unit"] == "ann") & examples["dropped"].isna()]
    assert json.loads(ann["target"].iloc[-1])["items"][-1] == "a", (
        "the later rating is the one kept"
    )


def test_one_user_or_a_missing_column_is_refused_in_one_line() -> None:
    with pytest.raises(Refused, match=r"^1 of 1 users with 10 ratings or more: .* 2 users"):
        label(documents(ratings("ann", "abcdefghij")), OPTIONS)
    with pytest.raises(Refused, match="no column 'film' in today's ratings, which have user, item"):
        label(documents(TWO), {**OPTIONS, "item": "film"})
    with pytest.raises(Refused, match="leave nothing to train on"):
        label(documents(TWO), {**OPTIONS, "tested": 0.6, "validated": 0.4})


def test_items_that_too_few_rated_leave_nothing_and_it_is_said(folder: Path) -> None:
    learner = RankerRecipe(least=1000).learner(Splits(folder, 1))
    with pytest.raises(Refused, match=r"model.least=1000: none of 20 items was rated by so many"):
        learner.fit(Run(Trainer(**HARDWARE), 1, 1, "test"))
    learner = RankerRecipe(least=1).learner(Splits(folder, 1, 1))
    assert isinstance(learner, RankerLearner) and learner.data.seen.shape[0] == 1


def test_it_recommends_of_the_users_taste_and_says_why(predictor: RankerPredictor) -> None:
    answer = predictor.predict([UserHistory(history=["b1", "The B2", "b3", "nothing"], shown=5)])[0]
    assert all(item.startswith("b") for item in answer.items) and len(answer.items) == 5
    assert answer.titles == [f"The {item}" for item in answer.items]
    assert answer.basis == "history" and answer.ignored == ["nothing"]
    assert all(set(why) <= {"The b1", "The b2", "The b3"} and why for why in answer.because)
    assert answer.scores == sorted(answer.scores, reverse=True)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([f"{a}{n}" for a in "abx" for n in range(10)]), max_size=40))
def test_nothing_that_was_seen_is_shown_again(
    predictor: RankerPredictor, history: list[str]
) -> None:
    answer = predictor.predict([UserHistory(history=history, shown=100)])[0]
    assert not set(answer.items) & set(history)
    known = set(history) & set(predictor.catalogue.items)
    assert len(answer.items) == 20 - len(known) == len(answer.because)
    assert answer.basis == ("history" if known else "popularity")
    assert answer.ignored == [item for item in history if item not in known]


def test_an_unknown_user_gets_what_most_rated_and_is_told_so(predictor: RankerPredictor) -> None:
    for history in ([], ["no such item"]):
        answer = predictor.predict([UserHistory(history=history, shown=3)])[0]
        assert answer.basis == "popularity" and answer.because == [[], [], []]
        most = sorted(predictor.catalogue.popularity, reverse=True)[:3]
        assert answer.scores == pytest.approx(most, abs=1e-4)


def test_a_rating_outside_the_range_or_one_too_many_is_refused(predictor: RankerPredictor) -> None:
    asked = UserHistory(history=["a1"], ratings=[9])
    assert predictor.unfit(asked) == "rating 9 is outside 1 to 5, which this version knows"
    assert "2 values for a history of 1" in predictor.unfit(
        UserHistory(history=["a1"], ratings=[3, 3])
    )
    assert predictor.unfit(UserHistory(history=["a1"], ratings=[3])) == ""


def test_the_latest_counts_most_and_what_was_disliked_less() -> None:
    catalogue = Catalogue(
        items=("a", "b", "c"),
        titles=("One", "Two", "Two"),
        users=(3, 1, 2),
        of_users=3,
        least_rating=1,
        most_rating=5,
    )
    weighting = Weighting(memory=1, floor=0.2, liked=3, disliked=0.5)
    one = known_history(catalogue, weighting, ["a", "b", "c", "a"], [5, 2, 5, 5])
    assert one.places.tolist() == [1, 2, 0], "an item that is named twice stands where it was last"
    assert one.weights == pytest.approx([0.1, np.exp(-1), 1])
    assert catalogue.place("two") == 2, "of equal titles the one that more users rated"
    assert known_history(catalogue, UNWEIGHTED, ["a", "b"], []).weights.tolist() == [1, 1]


def test_the_ladder_is_judged_on_the_same_rows_and_the_best_is_the_baseline(
    folder: Path, package: Path
) -> None:
    application, test = Ranking(), pd.read_parquet(folder / "test.parquet")
    frames = application.baselines(folder, test, {"least": 1})
    assert set(frames) == {"trivial", "item-kNN", "ALS", "baseline"}
    own = application.evaluate(application.open(package), test)
    weights = np.ones((1, len(test)))
    ndcg = {name: application.metric(one, weights)["ndcg"][0] for name, one in frames.items()}
    assert ndcg["item-kNN"] > 0.6 > ndcg["trivial"]
    assert application.metric(own, weights)["ndcg"][0] > 0.9 * ndcg["baseline"]
    assert any(frames["baseline"].equals(frames[name]) for name in ("item-kNN", "ALS", "trivial"))


def test_the_metrics_of_a_list_are_those_one_counts_by_hand(package: Path, folder: Path) -> None:
    application = Ranking()
    test = pd.read_parquet(folder / "test.parquet")
    predictor = application.open(package)
    frame = application.evaluate(predictor, test)
    asked = [UserHistory.model_validate_json(item) for item in test["inputs"]]
    lists = [answer.items for answer in predictor.predict(asked)]
    wanted = [json.loads(item)["items"] for item in test["target"]]
    recall = [
        len(set(some) & set(want)) / len(want) for some, want in zip(lists, wanted, strict=True)
    ]
    assert frame["recall"].to_numpy() == pytest.approx(recall)
    covered = len(set(itertools.chain.from_iterable(lists))) / len(predictor.catalogue.items)
    figures = application.metric(frame, np.ones((1, len(frame))))
    assert figures["coverage"][0] == pytest.approx(covered)


def test_its_pictures_are_drawn_and_its_answers_explained(
    package: Path, folder: Path, tmp_path: Path
) -> None:
    application, test = Ranking(), pd.read_parquet(folder / "test.parquet")
    frame = application.evaluate(application.open(package), test)
    drawings = application.figures(frame, tmp_path)
    assert [path.name for path in drawings] == ["activity.png", "popularity.png"]
    assert all(path.stat().st_size > 5_000 for path in drawings)
    for parts, asked in zip(
        application.explain(package, package, test.head(3)), test["inputs"], strict=False
    ):
        assert parts and {title for title, _ in parts} <= set(json.loads(asked)["titles"])


@pytest.mark.apps
def test_films_are_ranked_better_than_by_the_best_of_the_ladder(clone: Clone) -> None:
    done = clone.tidemill("run", "recommendation", "--json", timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["state"] == "Promoted"
