"""What is in this small picture?

A residual network of a few stages reads the picture in grey at `side` x `side` pixels. It learns
from copies that are shifted, turned, bent and partly erased, so that a few thousand suffice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recipes.images.schema import Fields, Picture
from recipes.images.session import PicturePredictor, grey
from tidemill.contract import (
    Baselined,
    Figured,
    LabelledInParts,
    Learner,
    Prunable,
    Recipe,
    Robust,
    RowWeighted,
    Splits,
    Teachable,
    Template,
    WarmStartable,
)
from tidemill.families.classifier import VALIDATION, Classifier, Label
from tidemill.kit import pictures
from tidemill.kit.examples import ExampleRow
from tidemill.kit.label_options import LabelOptions, options_as

if TYPE_CHECKING:
    import pandas as pd

LABELLED_SIDE = 28  # pixels; at this size a picture's ink is measured, whatever the network's side
INK = ((0.1, "under 10 %"), (0.2, "10 to 20 %"), (0.4, "20 to 40 %"), (1.01, "over 40 %"))


class NamedLabels(LabelOptions):
    """What a source's labels are called: {"0": zero}."""

    names: dict[str, str] = {}


class PictureClassification(
    Classifier[Picture, Label, PicturePredictor],
    LabelledInParts,
    Robust[Picture],
    Baselined,
    Figured,
    Template,
):
    Input = Picture
    Output = Label
    asks = "image"
    reads = "pictures"

    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Naming one centred object in a small grey picture of the kind it was trained on: "
            "by default one handwritten digit."
        ),
        "limits": (
            "Every picture is made grey and 28 x 28 pixels, so colour and detail are lost; "
            "bright strokes on a dark ground are expected, and a dark digit on white paper "
            "must be inverted first; a picture of something else gets a label too, with a "
            "confidence that says nothing about that."
        ),
        "out of scope": (
            "Reading numbers of several digits, finding where an object is, reading forms on "
            "which something depends without a person's check."
        ),
        "data": (
            "5,000 digits of MNIST, 500 of each, which high-school pupils and census "
            "employees in the USA wrote before 1995; other hands write other ones and sevens."
        ),
    }

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        """The label that the source gives; `names` in the options turns it into a word."""
        import pandas as pd

        names = options_as(NamedLabels, options).names
        rows: list[ExampleRow] = []
        for document in documents.to_dict("records"):
            body: bytes | None = document["payload"]
            if body is None:
                rows.append(_no_picture(document["doc_id"]))
                continue
            label = json.loads(document["attributes"]).get("label")
            pixels = grey(body, LABELLED_SIDE)
            name = "" if label is None else names.get(label, label)
            slices = {
                "label": name,
                "ink": next(title for edge, title in INK if pixels.mean() / 255 < edge),
                "set": document["original"] or document["source"],
            }
            blank = "blank" if pixels.max() == pixels.min() else None
            rows.append(
                {
                    "doc_id": document["doc_id"],
                    "inputs": json.dumps({"image": pictures.encoded(body)}),
                    "target": json.dumps({"label": name}),
                    "confidence": 1.0,
                    "votes": json.dumps({"source": name}),
                    "unit": document["doc_id"],
                    "slices": json.dumps(slices),
                    "payload": body,
                    "dropped": "no label" if label is None else blank,
                }
            )
        return pd.DataFrame(rows)

    def open(self, package: Path) -> PicturePredictor:
        return PicturePredictor(package)

    def evaluate(self, predictor: PicturePredictor, examples: pd.DataFrame) -> pd.DataFrame:
        """The picture in small stays beside, for the figure of what was misread."""
        scored = super().evaluate(predictor, examples)
        return scored.assign(payload=examples["payload"].to_numpy())

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from recipes.images.baselines import frames

        made = frames(splits, examples, options["side"], options["svm_rows"])
        payloads = examples["payload"].to_numpy()
        return {name: frame.assign(payload=payloads) for name, frame in made.items()}

    def perturbations(
        self, inputs: Sequence[Picture], seed: int
    ) -> Mapping[str, Sequence[Picture]]:
        from recipes.images.corruptions import harmed

        changed = harmed([pictures.decoded(item.image) for item in inputs], seed)
        return {
            name: [
                Picture.model_construct(_fields_set={"image"}, image=pictures.encoded(body))
                for body in bodies
            ]
            for name, bodies in changed.items()
        }

    def golden(self) -> list[Picture]:
        """Drawn here: a stroke, a ring, a cross in colour, a large ring, a blank one."""
        return [
            Picture(image=pictures.encoded(drawn(kind, mode, side)))
            for kind, mode, side in (
                ("stroke", "L", 28),
                ("ring", "L", 28),
                ("cross", "RGBA", 40),
                ("ring", "RGB", 300),
                ("blank", "1", 8),
            )
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.images.baselines import confusion, misread

        return [confusion(frame, folder / "confusion.png"), *misread(frame, folder / "misread.png")]


def drawn(kind: str, mode: str, side: int) -> bytes:
    """A PNG of a bright shape on black."""
    from PIL import Image, ImageDraw

    picture = Image.new(mode, (side, side))
    pen = ImageDraw.Draw(picture)
    colours: dict[str, int | tuple[int, ...]] = {
        "L": 255,
        "1": 1,
        "RGB": (255, 255, 255),
        "RGBA": (255, 255, 255, 255),
    }
    colour = colours[mode]
    low, high, thick = side // 5, side - side // 5, max(1, side // 10)
    if kind == "ring":
        pen.ellipse((low, low, high, high), outline=colour, width=thick)
    elif kind != "blank":
        pen.line((side // 2, low, side // 2, high), fill=colour, width=thick)
    if kind == "cross":
        pen.line((low, side // 2, high, side // 2), fill=colour, width=thick)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def _no_picture(doc_id: str) -> ExampleRow:
    return {
        "doc_id": doc_id,
        "inputs": "{}",
        "target": "{}",
        "confidence": 0.0,
        "votes": "{}",
        "unit": doc_id,
        "slices": "{}",
        "payload": None,
        "dropped": "not a picture",
    }


class Images(Fields, Recipe, WarmStartable, Teachable, RowWeighted, Prunable):
    """Hyperparameters of the picture classifier."""

    application = PictureClassification
    validation = VALIDATION
    data_fields = frozenset(
        {"side", "batch", "shift", "turn", "zoom", "bend", "erase", "noise", "mirror"}
    )
    baseline_fields = frozenset({"side", "svm_rows"})

    def learner(self, splits: Splits) -> Learner:
        from recipes.images.network import PictureLearner

        return PictureLearner(self, splits)

    def batches(self) -> dict[str, int]:
        return {"side": self.side}

    def pruned(self, fraction: float) -> Images:
        return self.model_copy(update={"inner": self.inner * (1 - fraction)})
