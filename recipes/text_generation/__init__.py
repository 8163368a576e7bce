"""What would this text go on like? A GPT, pretrained from scratch on pages in several languages.

A real example: {"prompt": "Everyone has the right to"} goes on with {"text": " freedom of ..."}. A document is one
example: its likelihood, the end included, is what models are compared by, in bits per character, so that models
with other tokens, or with none, are on one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recipes.text_generation.size import Size, budget, sized
from tidemill import contract
from tidemill.contract import Metric

if TYPE_CHECKING:
    import pandas as pd

    from recipes.text_generation.session import Session

LN2 = float(np.log(2))
SHAPE = (
    "layers",
    "heads",
    "width",
    "context",
    "vocabulary",
    "positions",
    "norm",
)  # fields that replace a number of the size, but for `inner`
LONGEST = 100_000  # characters of a prompt


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str = Field(
        max_length=LONGEST,
        description="what the text begins with; nothing: a text from its beginning",
        examples=["Everyone has the right to"],
    )
    max_tokens: int = Field(default=64, ge=1, le=512, description="of the answer")
    temperature: float = Field(
        default=0.8, ge=0, le=5, description="0 takes the likeliest token each time"
    )
    top_k: int = Field(
        default=0, ge=0, le=100_000, description="draw from the k likeliest; 0: from all"
    )
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="draw from the fewest that together have this share"
    )
    repetition_penalty: float = Field(
        default=1.0, ge=1, le=10, description="above 1, tokens that occurred become less likely"
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default=[], max_length=8, description="the answer ends before the first of these"
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="same question, same seed, same answer"
    )


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="what follows the prompt")
    finish: Literal["end", "stop", "length"] = Field(
        default="end", description="the text ended, a stop was met, or max_tokens were made"
    )
    tokens: int = Field(default=0, ge=0, description="made")
    limit: str | None = Field(default=None, description="what of the prompt could not be used")


class TextGeneration(contract.Recipe):
    """Hyperparameters of the transformer."""

    size: Literal["tiny", "small", "124m", "350m", "1b"] = Field(
        default="tiny",
        description="a row of SIZES in size.py; the fields below replace single numbers of it",
    )
    layers: int = Field(
        default=0, ge=0, le=200, description="0: the size's own; so for the next six"
    )
    heads: int = Field(default=0, ge=0, le=200)
    width: int = Field(default=0, ge=0, le=20_000)
    context: int = Field(
        default=0, ge=0, le=100_000, description="tokens that a token sees, at most"
    )
    vocabulary: int = Field(
        default=0, ge=0, le=1_000_000, description="tokens; 257 are bytes and the end"
    )
    positions: Literal["", "rotary", "learned"] = ""
    norm: Literal["", "rms", "layer"] = Field(
        default="", description="layer has biases too, as GPT-2; rms has none"
    )
    start: str = Field(
        default="",
        description="a folder to begin from: a package of this application, or GPT-2's Hugging Face layout; its size and tokenizer hold. Nothing: from scratch",
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="with a start: train low-rank additions only (Hu et al. 2021); 0: all weights",
    )
    inner: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="channels between the two maps of a layer, as a share of four times the width; what `prune` lowers",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    optimiser: Literal["muon", "adamw"] = "muon"
    lr: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="warmed up over 1/20 of the steps, then falling linearly to 0",
    )
    decay: float = Field(default=0.1, ge=0, le=10, description="weight decay of the matrices")
    batch: int = Field(default=8, ge=1, le=65_536, description="blocks of a step, on each device")
    steps: int = Field(
        default=800,
        ge=1,
        description="in an epoch; the documents are gone through as often as that takes",
    )
    samples: int = Field(
        default=64,
        ge=0,
        le=10_000,
        description="test rows whose beginning is continued, for distinct-n, repetition and copying",
    )

    Input: ClassVar[type[BaseModel]] = Question
    Output: ClassVar[type[BaseModel]] = Answer
    metrics: ClassVar[dict[str, Metric]] = {
        "bits_per_char": Metric(
            better="lower",
            unit="bits",
            source="negative log2-likelihood of held-out texts and their ends, per Unicode character",
            low=0,
        ),
        "bits_per_byte": Metric(
            better="lower", unit="bits", source="the same per byte of UTF-8", low=0
        ),
        "distinct_2": Metric(
            better="higher",
            source="Li et al. 2016: different word pairs of an answer, of all its pairs",
            low=0,
            high=1,
        ),
        "repeated": Metric(
            better="lower",
            source="Welleck et al. 2020: share of word 4-grams that occurred before in the answer",
            low=0,
            high=1,
        ),
        "copied": Metric(
            better="lower",
            unit="characters",
            source="the longest span of an answer that stands in a train text, on average",
            low=0,
        ),
    }
    facts: ClassVar[dict[str, str]] = {
        "intended use": "Showing how a language model is trained, judged and let out; continuing short texts in the manner of its sources.",
        "out of scope": "Facts, advice, or text that anybody takes for a person's: it was trained on one to two million characters, a millionth of what fluent models read.",
        "limits": "It knows what declarations, software and tales sound like in the languages of its configuration, and nothing of the world; many of its words are none. "
        "Bits per character compare models on the same test rows, not languages: a Chinese character says more than a Latin one.",
        "data": "A few hundred articles, some ten thousand interface strings and some forty tales in twenty languages: tiny. A text's language is what its source says.",
        "risks": "It repeats its training texts, in long spans where they are formulaic; `copied` counts how long.",
    }

    steady: ClassVar[float] = (
        0.5  # where two tokens are nearly as likely, another processor's sums may draw the other one
    )
    reads: ClassVar[str] = "texts"
    warm: ClassVar[bool] = True
    teaches: ClassVar[bool] = True
    prunes: ClassVar[bool] = True
    data_fields: ClassVar[frozenset[str]] = frozenset(
        {"size", "context", "vocabulary", "batch", "steps", "start"}
    )

    @model_validator(mode="after")
    def _fits(self) -> TextGeneration:
        if self.lora_rank and not self.start:
            raise ValueError(
                f"lora_rank {self.lora_rank} needs a `start`: there is nothing to add to from scratch"
            )
        own = [name for name in SHAPE if getattr(self, name)] + (
            ["inner"] if self.inner < 1 else []
        )
        if self.start and own:
            raise ValueError(
                f"with a `start` the folder's own {', '.join(own)} hold; leave them out"
            )
        if not self.start and self.shape().vocabulary < 257:
            raise ValueError(
                f"vocabulary {self.vocabulary} is under 257: every byte and the end need a token"
            )
        return self

    def shape(self) -> Size:
        """The network's size: the start's, or the named one with what the fields replace."""
        if self.start:
            from recipes.text_generation.folder import shape

            return shape(self.start)
        return sized(self.size, **{name: getattr(self, name) for name in (*SHAPE, "inner")})

    def plan(
        self, epochs: int, devices: int, strategy: str, precision: str
    ) -> dict[str, float | int | str]:
        return budget(self.shape(), self.batch, self.steps * epochs, devices, strategy, precision)

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        from recipes.text_generation.label import label

        return label(documents, options)

    def datamodule(self, splits: Path, seed: int, rows: int = 0) -> Any:
        from recipes.text_generation.data import Data

        return Data(self, splits, seed, rows)

    def module(self, datamodule: Any) -> Any:
        from recipes.text_generation.net import Generator

        return Generator(self, datamodule)

    def warmed(self, package: Path) -> TextGeneration:
        """With the package's own size and tokens, which its weights belong to."""
        return TextGeneration(
            **{
                **{
                    name: value
                    for name, value in self.model_dump().items()
                    if name not in (*SHAPE, "inner")
                },
                "start": str(package),
            }
        )

    def batches(self) -> dict[str, Any]:
        shape = self.shape()
        return {"vocabulary": shape.vocabulary, "context": shape.context}

    def strange(self, package: Path, datamodule: Any) -> str:
        return (
            ""
            if (package / "tokenizer.json").read_text("utf-8") == datamodule.tokens.body
            else "its tokens are others than those of today's data"
        )

    def unprunable(self) -> str:
        return (
            "a network that begins from a folder or a champion has the size it had there; begin from scratch"
            if self.start
            else ""
        )

    def pruned(self, module: Any, fraction: float) -> tuple[TextGeneration, Any]:
        from recipes.text_generation.net import pruned

        recipe = self.model_copy(update={"inner": self.inner * (1 - fraction)})
        return recipe, pruned(module, recipe)

    def export(self, module: Any, datamodule: Any, package: Path) -> float:
        from recipes.text_generation import folder, report
        from recipes.text_generation.net import export, merged

        net = merged(module.net)
        (package / "tokenizer.json").write_text(datamodule.tokens.body, encoding="utf-8")
        np.savez_compressed(package / "seen.npz", hashes=report.spans(datamodule.train_texts))
        folder.save(net, package)
        return export(net, package / "model.onnx")

    def open(self, package: Path) -> Session:
        from recipes.text_generation.session import Session

        return Session(package)

    def predict(self, session: Session, inputs: list[BaseModel]) -> list[BaseModel]:
        answers: list[BaseModel] = []
        for text, finish, tokens, limit in session.together(inputs):  # type: ignore[arg-type]
            answers.append(Answer(text=text, finish=finish, tokens=tokens, limit=limit))  # type: ignore[arg-type]
        return answers

    def stream(self, session: Session, question: Question) -> Iterator[str]:
        """The answer's text piece by piece, as its tokens come."""
        return session.pieces(question)

    def score(self, session: Session, examples: pd.DataFrame) -> pd.DataFrame:
        from recipes.text_generation.report import asked, continued, frame

        texts, languages = asked(examples)
        return frame(texts, languages, session.nats(texts)).assign(
            **continued(session, texts, self.samples)
        )

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        columns = {
            name: frame[name].to_numpy(float)
            for name in frame.columns
            if name not in ("language", "sample")
        }
        bits = columns["nats"] / LN2
        return {
            "bits_per_char": (bits, columns["chars"]),
            "bits_per_byte": (bits, columns["bytes"]),
            "distinct_2": (columns["pairs_new"], columns["pairs"]),
            "repeated": (columns["fours_again"], columns["fours"]),
            "copied": (columns["copied"], columns["asked"]),
        }

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                name: (weights @ over) / (weights @ under)
                for name, (over, under) in self.ratios(frame).items()
            }

    def perturbations(self, inputs: list[BaseModel], seed: int) -> dict[str, list[BaseModel]]:
        from tidemill.kit import perturbations

        asked: list[Question] = inputs  # type: ignore[assignment]
        changed = perturbations.texts([question.prompt for question in asked], seed, LONGEST)
        return {
            name: [
                question.model_copy(update={"prompt": text})
                for question, text in zip(asked, texts, strict=True)
            ]
            for name, texts in changed.items()
        }

    def baselines(self, splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        from recipes.text_generation.report import simpler

        return simpler(splits, examples)

    def example(self, session: Session) -> dict[str, dict[str, np.ndarray]]:
        ids = session.tokens.ids(
            ["Everyone has the right to life.", "Alle Menschen sind frei und gleich."]
        )
        width = min(map(len, ids))
        block = np.stack([row[:width] for row in ids])
        empty = np.zeros(
            (
                session.size.layers,
                2,
                session.size.heads,
                0,
                session.size.width // session.size.heads,
            ),
            dtype=np.float32,
        )
        logits, keys, values = session.step(block)
        return {
            "inputs": {"ids": block, "past_keys": empty, "past_values": empty},
            "outputs": {"logits": logits, "keys": keys, "values": values},
        }

    def golden(self) -> list[BaseModel]:
        return [
            Question(prompt=prompt, max_tokens=16)
            for prompt in (
                "Everyone has the right to",
                "Jeder hat das Recht auf",
                "Каждый человек имеет право",
                "",
                "すべて人は",
                "Toute personne a droit " * 200,
            )
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.text_generation.report import picture

        return picture(frame, folder)
