"""What every benchmark prints: a figure, a peer's in the same run, a goal and if it is met."""

import json
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

REACHES = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One measured figure; `ratio` is ours over the peer's.

    The goal is `<= NUMBER` or `>= NUMBER`, of the ratio where it begins with that word.
    """

    name: str
    ours: float
    peer: float | None = None
    goal: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None where there is none, or no peer to reach it by."""
        if not self.goal:
            return None
        *of, sign, bound = self.goal.split()
        figure = self.ratio if of == ["ratio"] else self.ours
        return None if figure is None else bool(REACHES[sign](figure, float(bound)))

    def record(self) -> dict[str, Any]:
        shown = asdict(self) | {"ratio": self.ratio, "holds": self.holds}
        more = shown.pop("more")
        rounded = {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in shown.items()
        }
        return rounded | more

    def line(self) -> str:
        words = f"{self.name}: {self.ours:.4g}"
        if self.peer is not None:
            words += f", peer {self.peer:.4g}, ratio {self.ratio:.3g}"
        if self.goal:
            answer = {True: "yes", False: "NO", None: "not measured"}[self.holds]
            words += f" (goal {self.goal}; holds: {answer})"
        return words + "".join(f", {name} {value}" for name, value in self.more.items())


def show(rows: Iterable[Row], as_json: bool) -> None:
    """A list in JSON at the end, or each row as soon as it is there."""
    if as_json:
        print(json.dumps([row.record() for row in rows], indent=1))
        return
    for row in rows:
        print(row.line(), flush=True)
