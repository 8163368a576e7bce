"""Which language is this text written in?

A real example: {"text": "Jeder hat das Recht auf Leben"} is {"language": "deu"}. Character n-grams,
hashed, lead to one row each of a table; the rows add up to a score per language. The table starts as
naive Bayes (by truncated singular value decomposition, rank `dim`) and is then trained to tell the
languages apart, each counting alike (logit adjustment, Menon et al. 2021).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recipes.languages.features import ngrams, padded
from tidemill import contract
from tidemill.contract import Metric
from tidemill.kit.calibration import temperature, tempered

if TYPE_CHECKING:
    import pandas as pd

WRITTEN_AS = {"Hans": "Hani", "Hant": "Hani", "Hang": "Kore", "Zyyy": ""}
ALSO = {"Jpan": "Hani", "Kore": "Hani"}
LENGTHS = (
    (10, "1 to 10"),
    (25, "11 to 25"),
    (60, "26 to 60"),
    (150, "61 to 150"),
    (10**9, "over 150"),
)
BATCH_IDS = (
    60_000  # n-grams in one call of the session: bounds its memory to 60,000 rows of the table
)
LONGEST = 100_000  # characters of one question


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(
        min_length=1,
        max_length=LONGEST,
        description="a word, a sentence or a page",
        examples=["Guten Morgen"],
    )


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    language: str = Field(description="ISO 639-3")
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="the model's own probability"
    )
    others: dict[str, float] = Field(default={}, description="the next likely languages")


class Languages(contract.Recipe):
    """Hyperparameters of the language identifier."""

    bits: int = Field(default=16, ge=8, le=20, description="the table has 2^bits rows")
    dim: int = Field(
        default=400,
        ge=1,
        le=4096,
        description="rank of the table; more than there are languages is as many",
    )
    smoothing: float = Field(
        default=0.01, gt=0, le=10, description="added to each n-gram's count where the table starts"
    )
    lr: float = Field(
        default=0.001, gt=0, le=1, description="Adagrad's learning rate, falling linearly to 0"
    )
    tau: float = Field(
        default=1.0,
        ge=0,
        le=3,
        description="weight of the logit adjustment; 0 is plain cross-entropy",
    )
    batch: int = Field(default=64, ge=1, le=65536, description="examples in a step")
    steps: int = Field(
        default=400, ge=1, description="steps in an epoch: examples are drawn, not swept"
    )
    crop: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="share of examples cut to a few words, as short as menu entries",
    )
    long_share: float = Field(
        default=0.7, ge=0, le=1, description="share of a batch from sources of whole paragraphs"
    )
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)

    Input: ClassVar[type[BaseModel]] = Question
    Output: ClassVar[type[BaseModel]] = Answer
    metrics: ClassVar[dict[str, Metric]] = {
        "macro_f1": Metric(
            better="higher",
            source="scikit-learn f1_score, average=macro, labels of the targets",
            low=0,
            high=1,
        ),
        "accuracy": Metric(better="higher", low=0, high=1),
        "log_loss": Metric(better="lower", unit="nats", low=0),
    }

    facts: ClassVar[dict[str, str]] = {
        "intended use": "Naming the language of a text of a word or more, for sorting and routing.",
        "limits": "Single words shared by languages cannot be told; close relatives (Bosnian, Croatian, Serbian) are mistaken for each other; "
        "a text in two languages gets one; beyond the first 600 characters nothing is read.",
        "out of scope": "Judging a person by the language of what they wrote; dialects.",
        "data": "Declarations of human rights, and user interfaces; most languages have one declaration alone.",
    }
    reads: ClassVar[str] = "labelled texts"
    teaches: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    averages: ClassVar[tuple[str, ...]] = ("probabilities",)
    data_fields: ClassVar[frozenset[str]] = frozenset(
        {"bits", "batch", "steps", "crop", "long_share"}
    )

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """Three voters: what the source says, an identifier that ships in a package, and the script."""
        from recipes.languages.voters import label

        return label(documents, int(options.get("min_examples", 1)))

    def datamodule(self, splits: Path, seed: int, rows: int = 0) -> Any:
        from recipes.languages.net import Data

        return Data(self, splits, seed, rows)

    def module(self, datamodule: Any) -> Any:
        from recipes.languages.net import Identifier

        return Identifier(self, datamodule)

    def batches(self) -> dict[str, Any]:
        return {"bits": self.bits}

    def strange(self, package: Path, datamodule: Any) -> str:
        known = json.loads((package / "tables.json").read_text())["languages"]
        other = sorted(set(known) ^ set(datamodule.languages))
        return (
            f"it knows {len(known)} languages and today's data has {len(datamodule.languages)}, {', '.join(other[:5])} on one side alone"
            if known != datamodule.languages
            else ""
        )

    def export(self, module: Any, datamodule: Any, package: Path) -> float:
        from recipes.languages.net import export

        (package / "tables.json").write_text(
            json.dumps({"languages": datamodule.languages, "bits": self.bits}) + "\n"
        )
        return export(module, package / "model.onnx", 2**self.bits)

    def open(self, package: Path) -> Session:
        return Session(package)

    def predict(self, session: Session, inputs: list[BaseModel]) -> list[BaseModel]:
        answers: list[BaseModel] = []
        for scores in session.probabilities([item.text for item in inputs]):  # type: ignore[attr-defined]
            best = np.argsort(-scores, kind="stable")[:4]
            others = {session.languages[i]: round(float(scores[i]), 4) for i in best[1:]}
            answers.append(
                Answer(
                    language=session.languages[best[0]],
                    confidence=min(1.0, float(scores[best[0]])),
                    others=others,
                )
            )
        return answers

    def score(self, session: Session, examples: pd.DataFrame) -> pd.DataFrame:
        place = {name: number for number, name in enumerate(session.languages)}
        target = examples["target"].map(lambda item: json.loads(item)["language"])
        scores = session.probabilities([json.loads(item)["text"] for item in examples["inputs"]])
        at = target.map(lambda name: place.get(name, -1)).to_numpy()
        chance = np.where(at >= 0, scores[np.arange(len(at)), at], 0.0)
        scored = frame(
            target,
            np.array(session.languages)[scores.argmax(axis=1)],
            -np.log(np.maximum(chance, 1e-12)),
        )
        return scored.assign(confidence=scores.max(axis=1).clip(0, 1))

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        from tidemill.kit.metrics import accuracy, macro_f1, mean

        return {
            "macro_f1": macro_f1(frame["target"], frame["answer"], weights),
            "accuracy": accuracy(right(frame, weights.dtype), weights),
            "log_loss": mean(frame["loss"].to_numpy(weights.dtype), weights),
        }

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        one = np.ones(len(frame))
        return {
            "accuracy": (right(frame, float), one),
            "log_loss": (frame["loss"].to_numpy(float), one),
        }

    def right(self, frame: pd.DataFrame) -> np.ndarray | None:
        return right(frame, float)

    def calibrate(self, package: Path, valid: pd.DataFrame) -> None:
        from tidemill.kit.calibration import fitted, write

        session = Session(package)
        place = {name: number for number, name in enumerate(session.languages)}
        at = np.array([place.get(json.loads(item)["language"], -1) for item in valid["target"]])
        scores = session.probabilities([json.loads(item)["text"] for item in valid["inputs"]])
        write(package, fitted(scores[at >= 0], at[at >= 0]))

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        from recipes.languages.explain import moved

        return moved(weights, [json.loads(item)["text"] for item in examples["inputs"]], self.bits)

    def baselines(self, splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        from recipes.languages.voters import identifier_frame, majority_frame, naive_bayes_frame

        return {
            "baseline": naive_bayes_frame(splits, examples),
            "lid.176": identifier_frame(examples),
            "trivial": majority_frame(splits, examples),
        }

    def example(self, session: Session) -> dict[str, dict[str, np.ndarray]]:
        texts = [item.text for item in self.golden()[:2]]  # type: ignore[attr-defined]
        ids, lengths = padded([ngrams(text, session.bits) for text in texts], 2**session.bits)
        outputs = session.session.run(None, {"ids": ids, "lengths": lengths})[0]
        return {"inputs": {"ids": ids, "lengths": lengths}, "outputs": {"probabilities": outputs}}

    def perturbations(self, inputs: list[BaseModel], seed: int) -> dict[str, list[BaseModel]]:
        from tidemill.kit.perturbations import texts

        changed = texts([item.text for item in inputs], seed, LONGEST)  # type: ignore[attr-defined]
        return {name: [Question(text=text) for text in found] for name, found in changed.items()}

    def golden(self) -> list[BaseModel]:
        return [
            Question(text=text)
            for text in (
                "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
                "All human beings are born free and equal in dignity and rights.",
                "Все люди рождаются свободными и равными в своем достоинстве и правах.",
                "すべての人間は、生まれながらにして自由である。",
                "a",
                "12345",
            )
        ]

    def noted(self, question: BaseModel, answer: BaseModel) -> dict[str, float | str]:
        return {**super().noted(question, answer), "language": answer.language}  # type: ignore[attr-defined]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.languages.voters import confusion

        return [confusion(frame, folder / "confusion.png")]


def frame(targets: Any, answers: Any, losses: Any) -> pd.DataFrame:
    """A score frame: target and answer as one categorical, so that counting them is quick."""
    import pandas as pd

    kind = pd.CategoricalDtype(sorted({*targets, *(name for name in answers if name is not None)}))
    return pd.DataFrame(
        {
            "target": pd.Series(list(targets), dtype=kind),
            "answer": pd.Series(list(answers), dtype=kind),
            "loss": losses,
        }
    )


def right(frame: pd.DataFrame, kind: Any) -> np.ndarray:
    """1 where the answer is the target, else 0: (n,)."""
    return (frame["target"].cat.codes == frame["answer"].cat.codes).to_numpy(kind)


class Session:
    """The exported identifier in ONNX Runtime."""

    def __init__(self, package: Path) -> None:
        import onnxruntime

        tables = json.loads((package / "tables.json").read_text())
        self.languages: list[str] = tables["languages"]
        self.bits: int = tables["bits"]
        self.temperature = temperature(package)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # a thread that waits by spinning takes as much processor as the answer
        self.session = onnxruntime.InferenceSession(
            str(package / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """(B, languages) float32; long and short texts in calls of their own, so that padding stays small."""
        ids = [ngrams(text, self.bits) for text in texts]
        out = np.zeros((len(texts), len(self.languages)), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(ids[order[stop]]) * (stop + 1 - start) <= BATCH_IDS:
                stop += 1
            rows = order[start:stop]
            block, lengths = padded([ids[row] for row in rows], 2**self.bits)
            out[rows] = tempered(
                self.session.run(None, {"ids": block, "lengths": lengths})[0], self.temperature
            )
            start = stop
        return out
