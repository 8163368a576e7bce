"""Where will tomorrow's open, high, low and close lie?

A real example: twenty days of {"open": [...], "high": [...], "low": [...], "close": [...], "volume": [...]}
are {"returns": {"open": 0.0021, "high": 0.0103, "low": -0.0045, "close": 0.0012}}: tomorrow's prices
relative to today's close. The answer gives three quantiles of each. An LSTM corrects what the window's own
days suggest. Nobody should expect skill on the close; how far the day will reach up and down can be told.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recipes.stocks.features import LEAST, QUANTILES, TARGETS, fault, features
from tidemill import contract
from tidemill.contract import Metric

if TYPE_CHECKING:
    import pandas as pd

BATCH = 4096
NUMBERS = ("open", "high", "low", "close", "volume")


class Series(BaseModel):
    """The last days of one series, oldest first."""

    model_config = ConfigDict(extra="forbid")
    open: list[float] = Field(max_length=5000)
    high: list[float] = Field(max_length=5000)
    low: list[float] = Field(max_length=5000)
    close: list[float] = Field(max_length=5000)
    volume: list[float] = Field(max_length=5000)
    adjusted: list[float] | None = Field(
        default=None,
        max_length=5000,
        description="the close adjusted for splits and dividends; without it the prices are taken as adjusted",
    )
    dates: list[date] | None = Field(
        default=None, max_length=5000, description="one a row, so that gaps are seen"
    )

    @model_validator(mode="after")
    def _sound(self) -> Series:
        rows = len(self.close)
        columns = {
            name: getattr(self, name)
            for name in (*NUMBERS, "adjusted", "dates")
            if getattr(self, name) is not None
        }
        uneven = [
            f"{name} has {len(column)}" for name, column in columns.items() if len(column) != rows
        ]
        if uneven:
            raise ValueError(
                f"every column needs as many rows as close, which has {rows}; {', '.join(uneven)}"
            )
        if rows < LEAST:
            raise ValueError(
                f"a series of {rows} day{'s' if rows != 1 else ''}; at least {LEAST} are needed, the model reads twenty or so"
            )
        why = fault(
            np.array([columns[name] for name in NUMBERS], dtype=float).T,
            self.dates,
            None if self.adjusted is None else np.array(self.adjusted),
        )
        if why:
            raise ValueError(why)
        return self

    def table(self) -> np.ndarray:
        """(days, 5): open, high, low, close, volume, adjusted where it is known how."""
        table = np.array([getattr(self, name) for name in NUMBERS], dtype=float).T
        return table if self.adjusted is None else adjusted(table, np.array(self.adjusted))


class Forecast(BaseModel):
    model_config = ConfigDict(extra="forbid")
    returns: dict[str, float | list[float]] = Field(
        description="of open, high, low and close against today's close: quantiles .1, .5 and .9"
    )
    prices: dict[str, list[float]] = Field(
        default={}, description="the same as prices, in the units of the question's last close"
    )


class Stocks(contract.Recipe):
    """Hyperparameters of the forecaster."""

    hidden: int = Field(default=32, ge=1, le=1024, description="the LSTM's state")
    layers: int = Field(default=1, ge=1, le=4)
    dropout: float = Field(default=0.1, ge=0, lt=1, description="before the last layer")
    lr: float = Field(
        default=0.003,
        gt=0,
        le=1,
        description="AdamW's highest learning rate, falling to 0 as a cosine",
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    batch: int = Field(default=256, ge=1, le=65536, description="windows in a step")
    folds: int = Field(
        default=3,
        ge=1,
        le=12,
        description="walk-forward validation: parts of the validation time, each judged by a network that saw only what came before",
    )
    embargo: int = Field(
        default=45,
        ge=0,
        le=1000,
        description="days before a fold that its network does not see; longer than a window",
    )

    Input: ClassVar[type[BaseModel]] = Series
    Output: ClassVar[type[BaseModel]] = Forecast
    metrics: ClassVar[dict[str, Metric]] = {
        "skill": Metric(
            better="higher",
            source="1 - MAE / MAE of the last close on the same rows; Hyndman and Koehler 2006 on relative errors",
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
    reads: ClassVar[str] = "series"
    warm: ClassVar[bool] = True
    data_fields: ClassVar[frozenset[str]] = frozenset({"batch", "folds", "embargo"})
    facts: ClassVar[dict[str, str]] = {
        "intended use": "A band in which tomorrow's high and low will probably lie, for setting alarms and limits.",
        "limits": "The close of tomorrow is not foretold better than by today's close, and the model says no more than that. "
        "It knows prices and volume alone: no news, no dividends to come, no holidays. A series shorter than the window is filled up with days without movement.",
        "out of scope": "Trading by it, advice to anybody, series that are not daily.",
        "data": "Five large companies of the USA, 2000 to 2013, of which two are much shorter: companies that did well, chosen afterwards. Nothing is known of the ones that failed.",
    }

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """One example a day and series: the window before it, and what the day brought. Given by the data, so nothing is voted on."""
        from recipes.stocks.windows import label

        return label(documents, int(options.get("window", 20)), dict(options.get("columns", {})))

    def datamodule(self, splits: Path, seed: int, rows: int = 0) -> Any:
        from recipes.stocks.net import Data

        return Data(self, splits, seed, rows)

    def module(self, datamodule: Any) -> Any:
        from recipes.stocks.net import Forecaster

        return Forecaster(self, datamodule)

    def export(self, module: Any, datamodule: Any, package: Path) -> float:
        from recipes.stocks.net import export

        (package / "tables.json").write_text(
            json.dumps(
                {
                    "window": datamodule.window,
                    "quantiles": QUANTILES,
                    "targets": TARGETS,
                    "wider": module.wider.tolist(),
                }
            )
            + "\n"
        )
        return export(module, datamodule, package / "model.onnx")

    def open(self, package: Path) -> Session:
        return Session(package)

    def predict(self, session: Session, inputs: list[BaseModel]) -> list[BaseModel]:
        asked: list[Series] = list(inputs)  # type: ignore[arg-type]
        found = session.returns([item.table() for item in asked])
        return [
            Forecast(
                returns={
                    name: [round(float(value), 6) for value in row]
                    for name, row in zip(TARGETS, rows, strict=True)
                },
                prices={
                    name: [round(float(item.close[-1] * (1 + value)), 4) for value in row]
                    for name, row in zip(TARGETS, rows, strict=True)
                },
            )
            for item, rows in zip(asked, found, strict=True)
        ]

    def score(self, session: Session, examples: pd.DataFrame) -> pd.DataFrame:
        return frame(examples, session.returns(tables(examples)))

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: (weights @ over) / (weights @ under)
            for name, (over, under) in self.ratios(frame).items()
        }

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        errors, naive = (
            {name: frame[f"{kind}_{name}"].to_numpy(float) for name in TARGETS}
            for kind in ("error", "naive")
        )
        one = np.ones(len(frame))
        whole, simple = sum(errors.values()), sum(naive.values())
        return {
            "skill": (simple - whole, simple),
            **{f"skill_{name}": (naive[name] - errors[name], naive[name]) for name in TARGETS},
            "pinball": (100 * frame["pinball"].to_numpy(float), one),
            "coverage": (frame["inside"].to_numpy(float), one),
            "mae": (100 * whole / len(TARGETS), one),
        }

    def baselines(self, splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        from recipes.stocks.windows import simpler

        return {name: frame(examples, found) for name, found in simpler(splits, examples).items()}

    def perturbations(self, inputs: list[BaseModel], seed: int) -> dict[str, list[BaseModel]]:
        from recipes.stocks.windows import harmed

        return harmed(inputs, seed)  # type: ignore[arg-type, return-value]

    def example(self, session: Session) -> dict[str, dict[str, np.ndarray]]:
        asked = session.features([item.table() for item in self.golden()[:2]])[:2]  # type: ignore[attr-defined]
        inputs = dict(zip(("steps", "start"), asked, strict=True))
        return {"inputs": inputs, "outputs": {"quantiles": session.session.run(None, inputs)[0]}}

    def golden(self) -> list[BaseModel]:
        """A wave, a flat line, a short series, one with a split in it; any version must answer them."""
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
            Series(**{name: column.tolist() for name, column in one.items()})
            for one in (wave, flat, {name: column[:LEAST] for name, column in wave.items()}, split)
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.stocks.pictures import bands, skills

        return [bands(frame, folder / "bands.png"), skills(frame, folder / "skill.png")]


def adjusted(table: np.ndarray, closes: np.ndarray) -> np.ndarray:
    """(days, 5) with prices times adjusted / close, and volume divided by it, so that a split is no fall."""
    factor = (closes / table[:, 3])[:, None]
    return np.hstack([table[:, :4] * factor, table[:, 4:] / factor])


def tables(examples: pd.DataFrame) -> list[np.ndarray]:
    """The questions' days, each (days, 5), as they are asked."""
    found = []
    for item in examples["inputs"]:
        question = json.loads(item)
        table = np.array([question[name] for name in NUMBERS], dtype=float).T
        found.append(
            adjusted(table, np.array(question["adjusted"])) if question.get("adjusted") else table
        )
    return found


def answers(examples: pd.DataFrame) -> np.ndarray:
    """What the days brought: (n, 4) returns."""
    return np.array(
        [[json.loads(item)["returns"][name] for name in TARGETS] for item in examples["target"]]
    )


def frame(examples: pd.DataFrame, found: np.ndarray) -> pd.DataFrame:
    """A score frame from quantiles of returns (n, 4, 3): errors, those of the last close, pinball, and what the band held."""
    import pandas as pd

    true = answers(examples)
    errors, naive = np.abs(true - found[:, :, 1]), np.abs(true)
    levels = np.array(QUANTILES)
    missed = true[:, :, None] - found
    pinball = np.maximum(levels * missed, (levels - 1) * missed).mean(axis=(1, 2))
    inside = ((true >= found[:, :, 0]) & (true <= found[:, :, 2])).mean(axis=1)
    return pd.DataFrame(
        {
            "series": examples["part"].to_numpy(),
            "day": examples["unit"].to_numpy(),
            **{f"error_{name}": errors[:, at] for at, name in enumerate(TARGETS)},
            **{f"naive_{name}": naive[:, at] for at, name in enumerate(TARGETS)},
            "pinball": pinball,
            "inside": inside,
            **{
                f"{name}_{level}": found[:, at, number]
                for at, name in enumerate(TARGETS)
                for number, level in enumerate(QUANTILES)
            },
            **{f"true_{name}": true[:, at] for at, name in enumerate(TARGETS)},
        }
    )


class Session:
    """The exported forecaster in ONNX Runtime."""

    def __init__(self, package: Path) -> None:
        import onnxruntime

        tables = json.loads((package / "tables.json").read_text())
        self.window: int = tables["window"]
        self.wider = np.outer(tables["wider"], (-1, 0, 1))  # (4, 3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a small graph: a second thread costs more than it brings
        self.session = onnxruntime.InferenceSession(
            str(package / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def features(self, days: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return features(days, self.window)

    def returns(self, days: list[np.ndarray]) -> np.ndarray:
        """Quantiles of tomorrow's returns (B, 4, 3), in order."""
        steps, start, scale = self.features(days)
        parts = [
            self.session.run(
                None, {"steps": steps[at : at + BATCH], "start": start[at : at + BATCH]}
            )[0]
            for at in range(0, len(steps), BATCH)
        ]
        found = (
            (np.sort(np.concatenate(parts).astype(float), axis=2) + self.wider)
            * scale[:, None, None]
            if parts
            else np.zeros((0, len(TARGETS), len(QUANTILES)))
        )
        return np.sort(np.expm1(found.clip(-5, 5)), axis=2)
