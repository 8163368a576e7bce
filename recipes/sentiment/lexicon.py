"""VADER (Hutto and Gilbert 2014): a lexicon and rules, made on tweets that are among our rows."""

import json

import pandas as pd
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from tidemill.families.classifier import frame

NEUTRAL_BELOW = 0.05  # of its compound score, by its authors' README
SURE, OTHERS = -0.105, -2.996  # log of .9 and of .05: it gives no probabilities


def vader(examples: pd.DataFrame) -> pd.DataFrame:
    """Its answers as a score frame."""
    analyser = SentimentIntensityAnalyzer()
    targets = [json.loads(item)["label"] for item in examples["target"]]
    texts = [json.loads(item)["text"] for item in examples["inputs"]]
    answers = [_answer(analyser.polarity_scores(text)["compound"]) for text in texts]
    losses = [
        -SURE if target == answer else -OTHERS
        for target, answer in zip(targets, answers, strict=True)
    ]
    return frame(targets, answers, losses)


def _answer(compound: float) -> str:
    if abs(compound) < NEUTRAL_BELOW:
        return "neutral"
    return "positive" if compound > 0 else "negative"
