"""What is in this small picture?

A real example: {"image": "iVBORw0KGgo..."} (a PNG of a handwritten seven, as base64) is {"label": "7"}.
A residual network of a few stages reads the picture in grey at `side` x `side` pixels. It learns from
copies that are shifted, turned, bent and partly erased, so that a few thousand pictures suffice.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tidemill import contract
from tidemill.contract import Metric
from tidemill.kit import pictures
from tidemill.kit.calibration import temperature, tempered

if TYPE_CHECKING:
    import pandas as pd

LEAST_SIDE = 4  # pixels; a smaller picture shows nothing that could be told
MOST_CHARS = 4 * pictures.MOST_BYTES // 3 + 4
BATCH = 512  # pictures in one call of the session
INK = ((0.1, "under 10 %"), (0.2, "10 to 20 %"), (0.4, "20 to 40 %"), (1.01, "over 40 %"))


class Picture(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image: str = Field(
        min_length=1,
        max_length=MOST_CHARS,
        description="a PNG, JPEG, GIF, BMP or WebP as base64; bright strokes on a dark ground, as the training pictures",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
    )

    @field_validator("image")
    @classmethod
    def _opens(cls, image: str) -> str:
        picture = pictures.opened(pictures.decoded(image))
        if min(picture.size) < LEAST_SIDE:
            raise ValueError(
                f"a picture of {picture.size[0]} x {picture.size[1]} pixels, at least {LEAST_SIDE} x {LEAST_SIDE} are needed"
            )
        return image


class Label(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="the model's own probability"
    )
    others: dict[str, float] = Field(default={}, description="the next likely labels")


class Images(contract.Recipe):
    """Hyperparameters of the picture classifier."""

    side: int = Field(
        default=28,
        ge=8,
        le=128,
        description="pixels; every picture is brought to this height and width",
    )
    width: int = Field(
        default=16,
        ge=4,
        le=256,
        description="channels of the first stage; each further stage has twice as many",
    )
    stages: int = Field(
        default=3, ge=1, le=5, description="each but the first halves height and width"
    )
    depth: int = Field(default=1, ge=1, le=8, description="residual blocks in a stage")
    inner: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="channels between a block's convolutions, as a share of the stage's; what `prune` lowers",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="before the last layer")
    lr: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="AdamW's highest learning rate; it rises over a tenth of the steps and falls to 0 as a cosine",
    )
    weight_decay: float = Field(default=0.02, ge=0, le=1)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    batch: int = Field(default=64, ge=2, le=8192, description="pictures in a step")
    shift: float = Field(
        default=2.0,
        ge=0,
        le=32,
        description="pixels; the farthest a copy is moved in height and width",
    )
    turn: float = Field(
        default=12.0, ge=0, le=180, description="degrees; the most a copy is turned either way"
    )
    zoom: float = Field(
        default=0.1, ge=0, lt=1, description="share; the most a copy is enlarged or made smaller"
    )
    bend: float = Field(
        default=1.0,
        ge=0,
        le=16,
        description="pixels; the standard deviation of an elastic field of 5 x 5 points",
    )
    erase: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of copies with a random quarter-side square blacked out",
    )
    noise: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="of the brightness; the most that a copy's noise deviates, each copy's drawn up to it",
    )
    mirror: bool = Field(
        default=False, description="mirror half of the copies; wrong for digits, right for clothes"
    )
    svm_rows: int = Field(
        default=10_000,
        ge=10,
        description="training rows of the kernel machine at most: a kernel machine's time grows with their square",
    )

    Input: ClassVar[type[BaseModel]] = Picture
    Output: ClassVar[type[BaseModel]] = Label
    metrics: ClassVar[dict[str, Metric]] = {
        "accuracy": Metric(better="higher", low=0, high=1),
        "macro_f1": Metric(
            better="higher",
            source="scikit-learn f1_score, average=macro, labels of the targets",
            low=0,
            high=1,
        ),
        "log_loss": Metric(better="lower", unit="nats", low=0),
    }
    reads: ClassVar[str] = "pictures"
    warm: ClassVar[bool] = True
    teaches: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    prunes: ClassVar[bool] = True
    averages: ClassVar[tuple[str, ...]] = ("probabilities",)
    data_fields: ClassVar[frozenset[str]] = frozenset(
        {"side", "batch", "shift", "turn", "zoom", "bend", "erase", "noise", "mirror"}
    )
    facts: ClassVar[dict[str, str]] = {
        "intended use": "Naming one centred object in a small grey picture of the kind it was trained on: by default one handwritten digit.",
        "limits": "Every picture is made grey and 28 x 28 pixels, so colour and detail are lost; bright strokes on a dark ground are expected, "
        "and a dark digit on white paper must be inverted first; a picture of something else gets a label too, "
        "with a confidence that says nothing about that.",
        "out of scope": "Reading numbers of several digits, finding where an object is, reading forms on which something depends without a person's check.",
        "data": "5,000 digits of MNIST, 500 of each, which high-school pupils and census employees in the USA wrote before 1995; other hands write other ones and sevens.",
    }

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """The label that the source gives; `names` in the options turns it into a word. One voter, so nothing to vote on."""
        import pandas as pd

        names = {str(key): str(value) for key, value in dict(options.get("names", {})).items()}
        rows = []
        for document in documents.itertuples(index=False):
            if document.payload is None:
                rows.append(
                    {
                        "doc_id": document.doc_id,
                        "inputs": "{}",
                        "target": "{}",
                        "confidence": 0.0,
                        "votes": "{}",
                        "unit": document.doc_id,
                        "slices": "{}",
                        "payload": None,
                        "dropped": "not a picture",
                    }
                )
                continue
            label = json.loads(document.attributes).get("label")
            pixels = grey(document.payload, self.side)
            name = "" if label is None else names.get(label, label)
            slices = {
                "label": name,
                "ink": next(title for edge, title in INK if pixels.mean() / 255 < edge),
                "set": document.original or document.source,
            }
            rows.append(
                {
                    "doc_id": document.doc_id,
                    "inputs": json.dumps({"image": pictures.encoded(document.payload)}),
                    "target": json.dumps({"label": name}),
                    "confidence": 1.0,
                    "votes": json.dumps({"source": name}),
                    "unit": document.doc_id,
                    "slices": json.dumps(slices),
                    "payload": document.payload,
                    "dropped": "no label"
                    if label is None
                    else "blank"
                    if pixels.max() == pixels.min()
                    else None,
                }
            )
        return pd.DataFrame(rows)

    def datamodule(self, splits: Path, seed: int, rows: int = 0) -> Any:
        from recipes.images.net import Data

        return Data(self, splits, seed, rows)

    def module(self, datamodule: Any) -> Any:
        from recipes.images.net import Classifier

        return Classifier(self, datamodule)

    def batches(self) -> dict[str, Any]:
        return {"side": self.side}

    def pruned(self, module: Any, fraction: float) -> tuple[Images, Any]:
        from recipes.images.net import pruned

        recipe = self.model_copy(update={"inner": self.inner * (1 - fraction)})
        return recipe, pruned(module, recipe, module.data)

    def strange(self, package: Path, datamodule: Any) -> str:
        labels = json.loads((package / "tables.json").read_text())["labels"]
        return (
            ""
            if labels == datamodule.labels
            else f"it knows the labels {', '.join(labels)}, and today's are {', '.join(datamodule.labels)}"
        )

    def export(self, module: Any, datamodule: Any, package: Path) -> float:
        from recipes.images.net import export

        (package / "tables.json").write_text(
            json.dumps({"labels": datamodule.labels, "side": self.side}) + "\n"
        )
        return export(module, package / "model.onnx", self.side)

    def open(self, package: Path) -> Session:
        return Session(package)

    def predict(self, session: Session, inputs: list[BaseModel]) -> list[BaseModel]:
        answers: list[BaseModel] = []
        for scores in session.probabilities([pictures.decoded(item.image) for item in inputs]):  # type: ignore[attr-defined]
            best = np.argsort(-scores, kind="stable")[:4]
            others = {session.labels[i]: round(float(scores[i]), 4) for i in best[1:]}
            answers.append(
                Label(
                    label=session.labels[best[0]],
                    confidence=float(np.clip(scores[best[0]], 0, 1)),
                    others=others,
                )
            )
        return answers

    def score(self, session: Session, examples: pd.DataFrame) -> pd.DataFrame:
        return frame(examples, session.labels, session.probabilities(bodies(examples)))

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        from tidemill.kit.metrics import accuracy, macro_f1, mean

        return {
            "accuracy": accuracy(right(frame).astype(weights.dtype), weights),
            "macro_f1": macro_f1(frame["target"], frame["answer"], weights),
            "log_loss": mean(frame["loss"].to_numpy(weights.dtype), weights),
        }

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        one = np.ones(len(frame))
        return {"accuracy": (right(frame), one), "log_loss": (frame["loss"].to_numpy(float), one)}

    def right(self, frame: pd.DataFrame) -> np.ndarray | None:
        return right(frame)

    def calibrate(self, package: Path, valid: pd.DataFrame) -> None:
        from tidemill.kit.calibration import fitted, write

        session = Session(package)
        place = {name: number for number, name in enumerate(session.labels)}
        at = np.array([place.get(json.loads(item)["label"], -1) for item in valid["target"]])
        scores = session.probabilities(bodies(valid))
        write(package, fitted(scores[at >= 0], at[at >= 0]))

    def baselines(self, splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        from recipes.images.baselines import frames

        return frames(splits, examples, self.side, self.svm_rows)

    def perturbations(self, inputs: list[BaseModel], seed: int) -> dict[str, list[BaseModel]]:
        from recipes.images.corruptions import harmed

        changed = harmed([pictures.decoded(item.image) for item in inputs], seed)  # type: ignore[attr-defined]
        return {
            name: [
                Picture.model_construct(_fields_set={"image"}, image=pictures.encoded(body))
                for body in found
            ]
            for name, found in changed.items()
        }

    def example(self, session: Session) -> dict[str, dict[str, np.ndarray]]:
        pixels = session.pixels([pictures.decoded(item.image) for item in self.golden()[:2]])  # type: ignore[attr-defined]
        return {
            "inputs": {"pixels": pixels},
            "outputs": {"probabilities": session.session.run(None, {"pixels": pixels})[0]},
        }

    def golden(self) -> list[BaseModel]:
        """Drawn here: a stroke, a ring, a cross, one in colour, a large one, a blank one; any version must answer them."""
        from PIL import Image, ImageDraw

        found = []
        for kind, mode, side in (
            ("stroke", "L", 28),
            ("ring", "L", 28),
            ("cross", "RGBA", 40),
            ("ring", "RGB", 300),
            ("blank", "1", 8),
        ):
            picture = Image.new(mode, (side, side))
            pen, colour = (
                ImageDraw.Draw(picture),
                {"L": 255, "1": 1}.get(mode, (255, 255, 255) + ((255,) if mode == "RGBA" else ())),
            )
            low, high, thick = side // 5, side - side // 5, max(1, side // 10)
            if kind == "ring":
                pen.ellipse((low, low, high, high), outline=colour, width=thick)
            elif kind != "blank":
                pen.line((side // 2, low, side // 2, high), fill=colour, width=thick)
                if kind == "cross":
                    pen.line((low, side // 2, high, side // 2), fill=colour, width=thick)
            out = io.BytesIO()
            picture.save(out, format="PNG")
            found.append(Picture(image=pictures.encoded(out.getvalue())))
        return list(found)

    def noted(self, question: BaseModel, answer: BaseModel) -> dict[str, float | str]:
        return {**super().noted(question, answer), "label": answer.label}  # type: ignore[attr-defined]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.images.baselines import confusion, misread

        return [confusion(frame, folder / "confusion.png"), *misread(frame, folder / "misread.png")]


def grey(body: bytes, side: int) -> np.ndarray:
    """(side, side) uint8: the picture in grey, brought to size; one that is not square is set on black first."""
    from PIL import Image

    picture = pictures.grey(pictures.opened(body))
    if picture.size == (side, side):
        return np.asarray(picture)
    longest = max(picture.size)
    square = Image.new("L", (longest, longest))
    square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    return np.asarray(
        square.resize(
            (side, side), Image.Resampling.BOX if longest > side else Image.Resampling.BILINEAR
        )
    )


def bodies(examples: pd.DataFrame) -> list[bytes]:
    """The pictures of the questions as they are asked, perturbed ones too."""
    return [pictures.decoded(json.loads(item)["image"]) for item in examples["inputs"]]


def stack(payloads: Any, side: int) -> np.ndarray:
    """(n, side, side) uint8 of payloads."""
    return np.stack([grey(body, side) for body in payloads])


def frame(examples: pd.DataFrame, labels: list[str], scores: np.ndarray) -> pd.DataFrame:
    """A score frame from probabilities (n, labels); the picture in small stays beside, for the figure of what was misread."""
    import pandas as pd

    targets = [json.loads(item)["label"] for item in examples["target"]]
    kind = pd.CategoricalDtype(sorted({*targets, *labels}))
    place = {name: number for number, name in enumerate(labels)}
    at = np.array([place.get(name, -1) for name in targets])
    chance = np.where(at >= 0, scores[np.arange(len(at)), at], 0.0)
    answers = [labels[best] for best in scores.argmax(axis=1)]
    return pd.DataFrame(
        {
            "target": pd.Series(targets, dtype=kind),
            "answer": pd.Series(answers, dtype=kind),
            "loss": -np.log(np.maximum(chance, 1e-12)),
            "confidence": scores.max(axis=1).clip(0, 1),
            "payload": examples["payload"].to_numpy(),
        }
    )


def right(frame: pd.DataFrame) -> np.ndarray:
    """1 where the answer is the target, else 0: (n,)."""
    return (frame["target"].astype(str) == frame["answer"].astype(str)).to_numpy(float)


class Session:
    """The exported classifier in ONNX Runtime."""

    def __init__(self, package: Path) -> None:
        import onnxruntime

        tables = json.loads((package / "tables.json").read_text())
        self.labels: list[str] = tables["labels"]
        self.side: int = tables["side"]
        self.temperature = temperature(package)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # a thread that waits by spinning takes as much processor as the answer
        self.session = onnxruntime.InferenceSession(
            str(package / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def pixels(self, payloads: list[bytes]) -> np.ndarray:
        """(B, 1, side, side) float32, 0 to 1."""
        return (stack(payloads, self.side)[:, None] / np.float32(255)).astype(np.float32)

    def probabilities(self, payloads: list[bytes]) -> np.ndarray:
        """(B, labels) float32."""
        parts = [
            self.session.run(None, {"pixels": self.pixels(payloads[start : start + BATCH])})[0]
            for start in range(0, len(payloads), BATCH)
        ]
        return (
            tempered(np.concatenate(parts), self.temperature)
            if parts
            else np.zeros((0, len(self.labels)), np.float32)
        )
