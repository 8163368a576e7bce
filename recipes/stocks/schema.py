"""What is asked of a series, and what can be set.

A real example: twenty days of {"open": [...], "high": [...], "low": [...], "close": [...],
"volume": [...]} are {"returns": {"open": 0.0021, "high": 0.0103, "low": -0.0045, "close":
0.0012}}: tomorrow's prices relative to today's close. The answer gives three quantiles of each.
"""

from __future__ import annotations

from datetime import date

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recipes.stocks.features import LEAST, adjusted, fault

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
        description=(
            "the close adjusted for splits and dividends; without it the prices are taken as "
            "adjusted"
        ),
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
                f"a series of {rows} day{'s' if rows != 1 else ''}; at least {LEAST} are "
                "needed, the model reads twenty or so"
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


class Fields(BaseModel):
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
        description=(
            "walk-forward validation: parts of the validation time, each judged by a network that "
            "saw only what came before"
        ),
    )
    embargo: int = Field(
        default=45,
        ge=0,
        le=1000,
        description="days before a fold that its network does not see; longer than a window",
    )
