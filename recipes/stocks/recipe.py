"""Where will tomorrow's open, high, low and close lie?

An LSTM corrects what the window's own days suggest. Nobody should expect skill on the close; how
far the day will reach up and down can be forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from recipes.stocks.examples import frame, tables
from recipes.stocks.features import LEAST, TARGETS
from recipes.stocks.schema import NUMBERS, Fields, Forecast, Series
from recipes.stocks.session import SeriesPredictor
from tidemill.contract import (
    Application,
    Baselined,
    Figured,
    Learner,
    Metric,
    Ratios,
    Recipe,
    Robust,
    Splits,
    Template,
    WarmStartable,
)
from tidemill.kit.label_options import LabelOptions, options_as

if TYPE_CHECKING:
    import pandas as pd


class WindowOptions(LabelOptions):
    """The days an answer is made from, and what another table calls its columns."""

    window: int = Field(default=20, ge=1)
    columns: dict[str, str] = {}


class DailyForecast(
    Application[Series, Forecast, SeriesPredictor], Robust[Series], Baselined, Figured, Template
):
    Input = Series
    Output = Forecast
    reads = "series"
    metrics: ClassVar[dict[str, Metric]] = {
        "skill": Metric(
            better="higher",
            source=(
                "1 - MAE / MAE of the last close on the same rows; Hyndman and Koehler 2006 on "
                "relative errors"
            ),
            high=1,
        ),
        **{
            f"skill_{name}": Metric(
                better="higher", source=f"skill, of tomorrow's {name} alone", high=1
            )
            for name in TARGETS
        },
        "pinball": Metric(
            better="lower",
            unit="percent of the price",
            source="Koenker and Bassett 1978, mean over .1, .5, .9 and the four prices",
            low=0,
        ),
        "coverage": Metric(
            better="higher",
            unit="share",
            source="of the four prices, inside the band from .1 to .9; .8 is right",
            low=0,
            high=1,
        ),
        "mae": Metric(better="lower", unit="percent of the price", low=0),
    }
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "A band in which tomorrow's high and low will probably lie, for setting alarms "
            "and limits."
        ),
        "limits": (
            "The close of tomorrow is not foretold better than by today's close, and the "
            "model says no more than that. It knows prices and volume alone: no news, no "
            "dividends to come, no holidays. A series shorter than the window is filled up "
            "with days without movement."
        ),
        "out of scope": "Trading by it, advice to anybody, series that are not daily.",
        "data": (
            "Five large companies of the USA, 2000 to 2013, of which two are much shorter: "
            "companies that did well, chosen afterwards. Nothing is known of the ones that "
            "failed."
        ),
    }

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        """One example a day and series: the window before it, and what the day brought."""
        from recipes.stocks.windows import label

        given = options_as(WindowOptions, options)
        return label(documents, given.window, given.columns)

    def open(self, package: Path) -> SeriesPredictor:
        return SeriesPredictor(package)

    def evaluate(self, predictor: SeriesPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        return frame(examples, predictor.returns(tables(examples)))

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        errors, naive = (
            {name: frame[f"{kind}_{name}"].to_numpy(float) for name in TARGETS}
            for kind in ("error", "naive")
        )
        one = np.ones(len(frame))
        whole, simple = np.sum(list(errors.values()), axis=0), np.sum(list(naive.values()), axis=0)
        return {
            "skill": (simple - whole, simple),
            **{f"skill_{name}": (naive[name] - errors[name], naive[name]) for name in TARGETS},
            "pinball": (100 * frame["pinball"].to_numpy(float), one),
            "coverage": (frame["inside"].to_numpy(float), one),
            "mae": (100 * whole / len(TARGETS), one),
        }

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from recipes.stocks.windows import simpler

        return {name: frame(examples, some) for name, some in simpler(splits, examples).items()}

    def perturbations(self, inputs: Sequence[Series], seed: int) -> Mapping[str, Sequence[Series]]:
        from recipes.stocks.windows import harmed

        return harmed(inputs, seed)

    def golden(self) -> list[Series]:
        """A wave, a flat line, a short series, one with a split in it.

        Any version must answer them.
        """
        day = np.arange(30)
        close = 50 + 5 * np.sin(day / 4)
        wave = {
            "open": close - 0.2,
            "high": close + 0.5,
            "low": close - 0.6,
            "close": close,
            "volume": 1e6 + 1e4 * day,
        }
        flat = dict.fromkeys(NUMBERS, np.full(30, 10.0))
        halved = np.where(day < 15, 2.0, 1.0)
        split = {
            name: column * (halved if name != "volume" else 1 / halved)
            for name, column in wave.items()
        } | {"adjusted": close}
        return [
            Series.model_validate({name: column.tolist() for name, column in one.items()})
            for one in (wave, flat, {name: column[:LEAST] for name, column in wave.items()}, split)
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.stocks.pictures import bands, skills

        return [bands(frame, folder / "bands.png"), skills(frame, folder / "skill.png")]


class Stocks(Fields, Recipe, WarmStartable):
    """Hyperparameters of the forecaster."""

    application = DailyForecast
    validation = {
        "valid_skill": Metric(better="higher"),
        "valid_pinball": Metric(better="lower", unit="percent of the price"),
    }
    data_fields = frozenset({"batch", "folds", "embargo"})

    def learner(self, splits: Splits) -> Learner:
        from recipes.stocks.network import SeriesLearner

        return SeriesLearner(self, splits)
