"""Tokens in files, which rows a mixture draws, and how many bytes a training holds of a corpus."""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recipes.text_generation import corpus as corpora
from recipes.text_generation.conversations import ConversationReader, whole
from recipes.text_generation.corpus import Corpus, SplitPart, corpus
from recipes.text_generation.data import Blocks, Data
from recipes.text_generation.mixture import (
    ROWS,
    Mixed,
    SourceGroup,
    UnusableMixture,
    grouped,
    quotas,
)
from recipes.text_generation.recipe import TextGeneration
from recipes.text_generation.spans import copied, spans
from recipes.text_generation.tokens import Tokens, trained
from tests.support.texts import TEXTS, packed
from tidemill.contract import Splits
from tidemill.runtime import paths

SMALL = {"layers": 1, "heads": 2, "width": 32, "context": 16, "vocabulary": 300, "batch": 4}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's state in a folder of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setattr(paths, "state", lambda *parts: folder.joinpath(*parts))
    return folder


def table(path: Path, texts: list[str], sources: list[str] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = {"inputs": [json.dumps({"prompt": text}) for text in texts]}
    if sources:
        rows["slices"] = [json.dumps({"domain": source}) for source in sources]
    pd.DataFrame(rows).to_parquet(path)
    return path


def reader() -> ConversationReader:
    return ConversationReader(Tokens(trained(TEXTS, 300)))


def made(sources: dict[str, list[int]], hashes: list[int] | None = None) -> Corpus:
    """A corpus of rows with so many tokens to ask for, by source; a token is its row's number."""
    sizes = [size for of_source in sources.values() for size in of_source]
    one = Corpus.of([whole(np.full(size + 1, row)) for row, size in enumerate(sizes)])
    groups = np.repeat(np.arange(len(sources)), [len(rows) for rows in sources.values()])
    numbers = np.array(hashes or range(len(sizes)), dtype=np.uint64)
    return Corpus(one.ids, one.starts, None, groups, numbers, tuple(sources))


def test_rows_come_back_from_their_files_as_the_reader_made_them(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "ROWS", 3)  # batches that end within the table
    path = table(tmp_path / "train.parquet", TEXTS, ["a", "b"] * 4)
    one = corpus(SplitPart(path), reader())
    documents = reader().tokens.documents(TEXTS)
    assert len(one) == len(TEXTS) and one.asked is None
    assert all((one.reading(row).ids == ids).all() for row, ids in enumerate(documents))
    assert one.targets == sum(len(ids) - 1 for ids in documents)
    assert one.chars == sum(map(len, TEXTS))
    assert one.sources == ("a", "b") and one.groups[:].tolist() == [0, 1] * 4
    assert len(set(one.hashes[:].tolist())) == len(TEXTS)
    again = pickle.loads(pickle.dumps(one))  # as a loader's workers get it
    assert (again.ids[:] == one.ids[:]).all()
    assert [len(corpus(SplitPart(path, rows), reader())) for rows in (1, 3, 7)] == [1, 3, 7]


def test_a_second_training_writes_no_tokens_and_a_cut_file_is_written_again(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "train.parquet", TEXTS)
    first = corpus(SplitPart(path), reader()).ids[:]
    with monkeypatch.context() as patch:
        patch.setattr(corpora, "_write", lambda *given: pytest.fail("written again"))
        assert (corpus(SplitPart(path), reader()).ids[:] == first).all()
    [file] = (state / "tokens").glob("*/ids")
    file.write_bytes(file.read_bytes()[:-2])
    assert (corpus(SplitPart(path), reader()).ids[:] == first).all()


def test_a_corpus_outlives_its_files_and_is_read_again_after_it_was_let_go(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "MAPPED", 0)  # let go at each reading
    one = corpus(SplitPart(table(tmp_path / "train.parquet", TEXTS)), reader())
    before = one.ids[:]
    [folder] = (state / "tokens").iterdir()
    shutil.rmtree(folder)  # as `tidemill clean` does
    assert (one.ids[:] == before).all() and len(one.ids) == len(before)
    places = np.array([[3, 1], [2, len(before) - 1]])
    assert (one.ids[places] == before[places]).all()


def test_a_disk_that_fills_while_tokens_are_written_leaves_no_part(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    path = table(tmp_path / "train.parquet", TEXTS)
    monkeypatch.setattr(corpora._Writer, "_add", full)
    with pytest.raises(OSError, match="No space left"):
        corpus(SplitPart(path), reader())
    assert not [*(state / "tokens").iterdir()]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    context=st.integers(1, 8),
    learned=st.randoms(use_true_random=False),
)
def test_blocks_made_one_by_one_are_those_of_all_rows_in_one(
    sizes: list[int], context: int, learned: Any
) -> None:
    """Against the rows laid end to end, position by position."""
    readings = [
        whole(np.arange(size + 1) + 100 * row)._replace(
            asked=np.array([False] + [learned.random() < 0.5 for _ in range(size)])
        )
        for row, size in enumerate(sizes)
    ]
    ids, targets, places, owners = packed(Corpus.of(readings), context).reshape(4, -1)
    at = 0
    for row, reading in enumerate(readings):
        for token in range(len(reading.ids) - 1):
            assert ids[at] == reading.ids[token] and owners[at] == row
            asked = reading.asked[token + 1]
            assert targets[at] == (reading.ids[token + 1] if asked else -100)
            assert places[at] == min(token, at % context)
            at += 1
    assert (targets[at:] == -100).all() and len(ids) == max(1, -(-at // context)) * context


def test_a_mixture_gives_each_source_its_share_and_every_row_as_often(
    tmp_path: Path, state: Path
) -> None:
    one = made({"web": [7] * 100, "books": [50] * 30, "chat": [3] * 50})
    groups = grouped(one, {"web": 0.5, "books": 0.5, "chat": 0}, 0, None)
    mixed = Mixed(one, groups, budget=1000, most=4, seed=1)
    rows = [mixed.rows(epoch) for epoch in range(4)]
    for epoch in rows:
        shares = mixed.shares(epoch)
        assert shares["web"] == pytest.approx(0.5, abs=0.05) and "chat" not in shares
    times = np.bincount(np.concatenate(rows), minlength=180)
    assert set(times[:100]) <= {2, 3} and set(times[100:130]) <= {1, 2} and not times[130:].any()
    assert (mixed.rows(2) == rows[2]).all() and sorted(rows[0]) != sorted(rows[1])


def test_what_a_small_source_cannot_give_the_others_do() -> None:
    one = made({"small": [10] * 3, "large": [10] * 100})
    mixed = Mixed(one, grouped(one, {"small": 0.5, "large": 0.5}, 0, None), 600, 2, 1)
    assert mixed.shares(mixed.rows(0))["small"] == pytest.approx(0.1)  # twice 30 of 600
    with pytest.raises(
        UnusableMixture, match=r"takes 2,400 tokens.* 2,060 in model\.max_repetition=2"
    ):
        mixed.refuse_too_long(4)


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=5),
    budget=st.floats(1, 1e9),
    data=st.data(),
)
def test_quotas_are_the_budget_and_no_more_than_there_is(
    weights: list[float], budget: float, data: st.DataObject
) -> None:
    left = [data.draw(st.floats(0, 1e9)) for _ in weights]
    groups = [SourceGroup(str(at), weight, np.arange(1), 1) for at, weight in enumerate(weights)]
    if sum(left) < budget - 0.5:
        with pytest.raises(UnusableMixture):
            quotas(groups, budget, left)
        return
    if sum(left) < budget + 3:
        return
    given_ = quotas(groups, budget, left)
    assert sum(given_) == pytest.approx(budget, abs=1)
    assert all(0 <= one <= most + 1e-6 for one, most in zip(given_, left, strict=True))


def test_replay_is_the_share_of_rows_that_the_start_was_trained_on() -> None:
    one = made({"web": [5] * 200, "old": [5] * 50})
    before = np.array(sorted([*range(150), *range(200, 250)]), dtype=np.uint64)
    groups = grouped(one, {}, 0.1, before)
    mixed = Mixed(one, groups, budget=500, most=4, seed=1)
    shares = mixed.shares(mixed.rows(0))
    assert shares["web again"] + shares["old again"] == pytest.approx(0.1, abs=0.02)
    assert shares["web"] == pytest.approx(0.9, abs=0.02)
    for known in (np.arange(250, dtype=np.uint64), np.array([9999], dtype=np.uint64)):
        assert [group.name for group in grouped(one, {}, 0.1, known)] == ["web", "old"]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"web": 1, "wbe": 1}, "no training row is of source 'wbe'; there are rows of web, books"),
        ({"web": 1}, "says nothing of source 'books'.*0 leaves it out"),
    ],
)
def test_a_mixture_that_no_training_can_have_is_refused_by_name(
    mixture: dict[str, float], message: str
) -> None:
    with pytest.raises(UnusableMixture, match=message):
        grouped(made({"web": [1, 2], "books": [3]}), mixture, 0, None)


def test_weights_that_say_nothing_are_refused() -> None:
    for mixture in ({"web": 0.0}, {"web": -1.0}, {"web": float("nan")}):
        with pytest.raises(ValidationError):
            TextGeneration(**SMALL, mixture=mixture)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model of six texts, and one that goes on from it with eight, two of them new."""
    from tests.support.texts import fitted

    base = tmp_path_factory.mktemp("nights")
    for name, texts in (("first", TEXTS[:6]), ("second", TEXTS)):
        table(base / name / "train.parquet", texts, ["here", "there"] * (len(texts) // 2))
        table(base / name / "valid.parquet", TEXTS[:2])
    mixture = {"here": 0.8, "there": 0.2}
    kinds = {**SMALL, "steps": 6, "samples": 1, "max_repetition": 20.0}
    first, metrics = fitted(TextGeneration(**kinds, mixture=mixture), base / "first")
    package = base / "package"
    package.mkdir()
    first.export(package)
    recipe = TextGeneration(**kinds, replay=0.25).warmed(package)
    second, more = fitted(recipe, base / "second")
    return SimpleNamespace(package=package, metrics=metrics, second=second, more=more)


def test_a_training_logs_what_each_source_was_of_it(night: SimpleNamespace) -> None:
    assert night.metrics["share of here"] == pytest.approx(0.8, abs=0.1)
    assert night.metrics["share of here"] + night.metrics["share of there"] == pytest.approx(1)


def test_a_night_that_goes_on_from_a_package_replays_what_it_knew(night: SimpleNamespace) -> None:
    assert len(np.load(night.package / ROWS)["hashes"]) == 6
    again = sum(share for name, share in night.more.items() if name.endswith("again"))
    assert again == pytest.approx(0.25, abs=0.1)
    mixed = night.second.data.mixed
    new = [group for group in mixed.groups if not group.name.endswith(" again")]
    assert sorted(np.concatenate([group.rows for group in new]).tolist()) == [6, 7]


def test_a_step_of_a_mixture_is_the_same_in_whatever_order_steps_are_asked(
    tmp_path: Path, state: Path
) -> None:
    """So a training that was killed resumes with the batch that it was killed in."""
    table(tmp_path / "train.parquet", TEXTS, ["here", "there"] * 4)
    table(tmp_path / "valid.parquet", TEXTS[:2])
    fields = {**SMALL, "steps": 5, "max_repetition": 50.0}
    for mixture in ({"here": 0.7, "there": 0.3}, {}):
        recipe = TextGeneration(**fields, mixture=mixture)
        one, two = (Blocks(Data(recipe, Splits(tmp_path, 1))) for _ in range(2))
        inward = [one.whole(1, step) for step in range(5)]
        outward = [two.whole(1, step) for step in reversed(range(5))][::-1]
        for some, other in zip(inward, outward, strict=True):
            assert all((a == b).all() for a, b in zip(some, other, strict=True))


def test_spans_of_more_texts_than_are_kept_still_find_what_was_copied() -> None:
    random = np.random.default_rng(1)
    texts = ["".join(chr(97 + letter) for letter in random.integers(0, 26, 2000)) for _ in range(5)]
    whole_, few = spans(texts), spans(texts, most=1500)
    assert whole_.every == 1 and few.every == 8 and len(few.hashes) <= 1500
    assert (spans(texts[::-1], most=1500).hashes == few.hashes).all()
    answer = "so it was: " + texts[3][500:700] + " and so on for ever and ever"
    assert copied(answer, whole_) == 200 and 150 < copied(answer, few) <= 200
    assert copied("nothing of this was ever written there before", few) == 0
