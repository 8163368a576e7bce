"""Is this sentence friendly, hostile or neither?

The upper layers of a pretrained encoder of sentences are tuned over the states of its lower ones,
which are computed once (tidemill/families/texts/). People rated each sentence from -4 to 4; the
mean decides its class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.families.texts.application import TextClassification
from tidemill.families.texts.fields import TextRecipe

if TYPE_CHECKING:
    import pandas as pd

NEGATIVE, NEUTRAL, POSITIVE = "negative", "neutral", "positive"


class Sentiments(TextClassification):
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Telling whether an English sentence says something good, something bad or neither, "
            "for sorting and counting opinions."
        ),
        "limits": (
            "English alone. Irony, quotations and what only the context tells are misread; "
            "editorials, which argue more than they praise, are told worst (see the slices). "
            "A sentence that does both gets one answer. A long text is read in windows of "
            "64 tokens, whose answers are averaged, and not behind the eighth."
        ),
        "out of scope": (
            "Judging a person by what they wrote, or their state of mind; moderation without a "
            "person's check; other languages."
        ),
        "data": (
            "23,700 sentences of tweets, product reviews, film reviews and newspaper editorials "
            "(2004 to 2013, mostly of the USA), each rated by twenty people on average; what they "
            "agree on is what is learned. It begins from all-MiniLM-L6-v2 (Apache-2.0), an "
            "encoder trained on a billion pairs of English sentences from the web."
        ),
        "risks": (
            "Names of groups, places and persons carry the tone of the texts they stood in, in "
            "these sentences and in those that the encoder was trained on."
        ),
    }

    def named(
        self, attributes: Mapping[str, str], options: Mapping[str, Any]
    ) -> tuple[str | None, str | None]:
        """The class by the mean rating in the column `label.rating`, where there is one."""
        if "rating" not in options:
            return super().named(attributes, options)
        try:
            rating = float(attributes.get(str(options["rating"]), ""))
        except ValueError:
            return None, "its rating is no number"
        if not -4 <= rating <= 4:
            return None, "its rating is not between -4 and 4"
        least = float(options.get("least", 0.5))
        if abs(rating) < least:
            return NEUTRAL, None
        return (POSITIVE if rating > 0 else NEGATIVE), None

    def domain(self, document: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """By what its address holds, as `label.domains` says."""
        for name, part in dict(options.get("domains") or {}).items():
            if part in document["uri"]:
                return str(name)
        return super().domain(document, options)

    def unit(
        self,
        document: Mapping[str, Any],
        attributes: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> str:
        """A review or an editorial, whose sentences are named REVIEW_SENTENCE; else a sentence."""
        if "rating" not in options:
            return super().unit(document, attributes, options)
        whole = attributes.get("id", "").partition("_")[0] or document["doc_id"]
        return f"{self.domain(document, options)} {whole}"

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        """The ladder; and VADER, where the classes are those that it knows."""
        frames = super().baselines(splits, examples, options)
        if {json.loads(item)["label"] for item in examples["target"]} <= {
            NEGATIVE,
            NEUTRAL,
            POSITIVE,
        }:
            from recipes.sentiment.lexicon import vader

            frames["vader"] = vader(examples)
        return frames


class Sentiment(TextRecipe):
    """Hyperparameters of the encoder and its head."""

    application = Sentiments
