"""The contract of an application, in four types.

`Application` is the question: what is asked and answered, how examples are made of documents and
how answers are judged. It has no hyperparameters and needs no torch, so it is all that labelling,
scoring, judging and serving know. `Predictor` answers from a package. `Recipe` holds the
hyperparameters and makes a `Learner`, which is one training, whatever library does it.

What not every application can do is a type of its own, asked for by isinstance or issubclass.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeVar,
    cast,
    runtime_checkable,
)

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


GROUP = "tidemill.recipes"

I = TypeVar("I", bound=BaseModel)  # noqa: E741  (inputs and outputs, as in the documentation)
O = TypeVar("O", bound=BaseModel)  # noqa: E741
P = TypeVar("P", bound="Predictor[Any, Any]")
D = TypeVar("D")
In = TypeVar("In", bound=BaseModel, contravariant=True)

Ratios = dict[str, "tuple[np.ndarray, np.ndarray]"]
"""Metrics that are a ratio of sums over rows: name to numerator (n,) and denominator (n,)."""
Figures = dict[str, "np.ndarray"]
"""Metrics by name, each (R,) for R weightings of the rows."""


class Metric(BaseModel):
    """What a metric's number means."""

    model_config = ConfigDict(frozen=True)
    better: Literal["higher", "lower"]
    unit: str = ""
    source: str = ""  # where its definition stands
    low: float | None = None  # no row and no metric lies below; None: nobody can say
    high: float | None = None  # nor above

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1


# The question ----------------------------------------------------------------------------


class Application(ABC, Generic[I, O, P]):
    """What is asked, what is answered, and how answers are judged."""

    Input: type[I]
    """One question, as the server accepts it."""
    Output: type[O]
    """One answer."""
    metrics: ClassVar[dict[str, Metric]]
    """The metrics that `metric` gives, by name. The first one names the application's quality."""
    facts: ClassVar[dict[str, str]] = {}
    """For the model card: intended use, limits, out of scope, data."""
    prose: ClassVar[tuple[str, ...] | None] = None
    """The fields of a question in which near copies are sought when rows are split.

    None: every string over 40 characters.
    """

    @abstractmethod
    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        """Documents to examples.

        Columns: doc_id, inputs and target (JSON of Input and Output), confidence (0 to 1), votes
        (JSON: labelling function to vote), unit, slices (JSON: column to value), dropped (a reason,
        or None); payload (bytes, or None) where the question is about a picture or the like.
        `documents` has `payload` for what is no text.
        """

    @abstractmethod
    def open(self, package: Path) -> P:
        """The package's predictor, in ONNX Runtime; imports no torch."""

    @abstractmethod
    def evaluate(self, predictor: P, examples: pd.DataFrame) -> pd.DataFrame:
        """One row per example, in the same order: the sufficient statistics of `metric`."""

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> Figures:
        """The named metrics of weighted rows: weights (R, n) for n rows give arrays (R,).

        A metric is a function of rows and weights, so one paired resampling compares two models
        for any application and any metric. By default all are those of `ratios`.
        """
        import numpy as np

        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                name: (weights @ over) / (weights @ under)
                for name, (over, under) in self.ratios(frame).items()
            }

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        """Those metrics that are a ratio of sums over rows.

        A metric named here is resampled by sums over units, some hundred times as fast as by
        weighting rows.
        """
        return {}

    def golden(self) -> list[I]:
        """Inputs that any version must answer, asked before it is served."""
        return []

    def same(self, one: O, two: O) -> bool:
        """Whether two answers to one question agree: by default in their first field."""
        first = next(iter(type(one).model_fields))
        return alike(getattr(one, first), getattr(two, first))


class Predictor(Protocol[In, O]):
    """What answers: a package that was opened. Scoring and serving use the same one."""

    @property
    def graphs(self) -> dict[str, Graph]:
        """The ONNX graphs by name: NAME.onnx of the package. A caller may replace one."""

    def predict(self, inputs: Sequence[In]) -> list[O]:
        """As many answers as there are inputs, in the same order."""


@runtime_checkable
class OwnQuestions(Protocol[In]):
    """A predictor of which the data decide what can be asked, such as a table's columns."""

    def golden(self) -> Sequence[Any]:
        """Inputs that this package must answer, in place of the application's."""

    def unfit(self, question: In) -> str:
        """Why this package cannot be asked a question that its schema allows; "" where it can."""


class Graph(Protocol):
    """An ONNX graph as ONNX Runtime answers it."""

    def run(self, names: Any, inputs: dict[str, np.ndarray], /) -> Any: ...


# What some applications can do -----------------------------------------------------------


class LabelledInParts:
    """Its documents can be labelled some at a time, in any order, so that no step holds them all.

    What an example is follows from its document, from `survey` and from the counts of all answers.
    """

    surveyed: ClassVar[tuple[str, ...]] = ()
    """The columns of documents that `survey` needs; none: it is not asked."""

    def survey(self, documents: Iterator[pd.DataFrame], options: dict[str, object]) -> Any:
        """What has to be known of all documents before some are labelled; it is pickled."""
        return None

    def label_some(
        self, documents: pd.DataFrame, options: dict[str, object], known: Any
    ) -> pd.DataFrame:
        """The examples of some documents, as `Application.label` gives them."""
        application = cast("Application[Any, Any, Any]", self)
        return application.label(documents, options)

    def few(self, counts: Mapping[str, int], options: dict[str, object]) -> dict[str, str]:
        """Why examples of some answers are dropped, by the answer; `counts` are those of all."""
        return {}


class Calibratable(ABC):
    """Its confidences can be made honest."""

    @abstractmethod
    def calibrate(self, package: Path, valid: pd.DataFrame) -> None:
        """Write into the package what makes its confidences honest, fitted on validation rows.

        `evaluate` then gives them in a column `confidence` (0 to 1), judged by `calibrated` gates.
        """


class Robust(ABC, Generic[I]):
    """Its questions can be perturbed, for `robust` gates."""

    @abstractmethod
    def perturbations(self, inputs: Sequence[I], seed: int) -> Mapping[str, Sequence[I]]:
        """The same questions with typos, noise and the like, by the perturbation's name."""


class Baselined(ABC):
    """Simpler models can be asked the same questions."""

    @abstractmethod
    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        """Frames as `evaluate` gives them; `baseline` is the gates' one, `trivial` the least.

        A frame may leave rows out (NaN in its columns) that its model cannot answer. `options` are
        the recipe's fields that it names in `baseline_fields`.
        """


class Explainable(ABC):
    """Its answers can be explained by parts of the input."""

    @abstractmethod
    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        """For each example, which parts of its input moved the answer, and how far.

        `weights` are the learner's saved weights; this may import torch.
        """


class Figured(ABC):
    """Its score frames can be drawn."""

    @abstractmethod
    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        """Write pictures of a score frame, for the run's page."""


class Monitored(ABC, Generic[I, O]):
    """It says what of served questions and answers is watched for drift."""

    @abstractmethod
    def noted(self, question: I, answer: O) -> dict[str, float | str]:
        """What may be kept of a question and its answer without keeping either."""


class Averageable(ABC):
    """The outputs of several of its networks may be averaged (`ensemble`)."""

    averages: ClassVar[tuple[str, ...]]
    """The outputs of its graph, all of them."""


class Sampled(ABC):
    """Answers are drawn at random, so another processor's sums may draw another one."""

    steady: ClassVar[float]
    """The share of golden rows that must be answered as when the package was made."""


class Template(ABC):
    """`tidemill new --like` can make an application like it."""

    reads: ClassVar[
        Literal["pictures", "labelled texts", "texts with classes", "texts", "series", "tables"]
    ]
    """The kind of data it is brought."""


class Classes:
    """Its answers are classes: each must be in two training rows at least.

    The class is the first field of Output.
    """


@runtime_checkable
class Streams(Protocol[In]):
    """A predictor that gives an answer piece by piece."""

    def stream(self, question: In) -> Iterator[str]: ...


# The hyperparameters ---------------------------------------------------------------------


class Recipe(BaseModel, ABC):
    """Hyperparameters, each with bounds and a description, and the learner they make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    application: ClassVar[type[Application[Any, Any, Any]]]
    """The question that is learned."""
    validation: ClassVar[dict[str, Metric]]
    """The validation metrics that `sweep.metric` may name, with their direction."""
    data_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields that the loaded data depend on; a sweep over others loads the data once."""
    baseline_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields that the application's baselines depend on."""

    def unfit(self, strategy: str) -> str:
        """Why these fields cannot be trained by this strategy of Lightning; "" where they can."""
        return ""

    def unready(self) -> str:
        """Why a training cannot begin on this machine today, by a look; "" where nothing is seen.

        Asked before any work of a run, and by nothing that reads configuration alone.
        """
        return ""

    @abstractmethod
    def learner(self, splits: Splits) -> Learner:
        """One training of these fields on these rows, not begun."""


class WarmStartable:
    """A recipe whose training may begin from the champion's weights (trainer.start=champion)."""


class WarmStartableByFields(WarmStartable, ABC):
    """The same, where the fields name the package that a training begins from."""

    @abstractmethod
    def warmed(self, package: Path) -> Self:
        """These fields for a training that begins from an earlier model's package."""


class RowWeighted:
    """A recipe whose training rows count by `tidemill.kit.batches.weights` (label.issues=weight).

    Rows of valid and test always count alike.
    """


class Teachable(ABC):
    """A recipe whose network can learn from a teacher (`teach`).

    Its Lightning module has `logits(batch)`, (N, L), and `loss(logits, batch)`, and trains on the
    latter alone. Where some rows of the logits have no target, `rows(batch)`, (N,), is their mask.
    """

    @abstractmethod
    def batches(self) -> dict[str, int]:
        """What decides how a batch looks: a teacher's must be the student's."""


class Prunable(ABC):
    """A recipe whose network can lose inner channels (`prune`); its learner is a `Shrinks`."""

    @abstractmethod
    def pruned(self, fraction: float) -> Self:
        """These fields without `fraction` of the inner channels.

        ValueError where they cannot be.
        """


class Budgeted(ABC):
    """A recipe that can tell what a training takes before it begins."""

    @abstractmethod
    def plan(
        self, epochs: int, devices: int, strategy: str, precision: str
    ) -> dict[str, float | int | str]:
        """Parameters, memory of one of `devices`, tokens and FLOPs of the training."""


@runtime_checkable
class Batched(Protocol):
    """Fields with a number of rows in a step, which all devices share."""

    batch: int


@runtime_checkable
class Rated(Protocol):
    """Fields with a learning rate."""

    lr: float


# The training ----------------------------------------------------------------------------


class Splits:
    """The rows of a snapshot as learners take them.

    `tidemill.records.blobs.examples` reads its tables, in which pictures and sounds are digests.
    `seed` orders the data; `rows` limits the training rows, 0 is all. What a learner loads of them
    is kept for the next learner that would load the same.
    """

    def __init__(self, folder: Path, seed: int, rows: int = 0) -> None:
        self.folder, self.seed, self.rows = folder, seed, rows
        self._loaded: tuple[Hashable, Any] | None = None

    def of(self, kind: type, recipe: Recipe, load: Callable[[], D]) -> D:
        """What learners of this kind load for these fields: the same for equal `data_fields`."""
        values = tuple((name, getattr(recipe, name)) for name in sorted(recipe.data_fields))
        return self.loaded((kind, values), load)

    def loaded(self, key: Hashable, load: Callable[[], D]) -> D:
        """What was loaded last, if for the same key, else what `load` gives."""
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two data sets at a time may be more than the memory holds
            self._loaded = (key, load())
        data: D = self._loaded[1]
        return data


@dataclass(frozen=True)
class Watch:
    """A validation metric with its direction: what early stopping and keep=best go by."""

    name: str
    sign: int  # 1: higher is better; -1: lower


@dataclass(frozen=True)
class Lessons:
    """Distillation: trained learners that teach, and how much of the loss is theirs."""

    teachers: Sequence[Learner]
    weight: float
    temperature: float


@dataclass(frozen=True)
class Run:
    """The circumstances of one training."""

    trainer: Any  # tidemill.engines.config.schema.Trainer, which this module cannot import
    seed: int
    epochs: int
    what: str  # in messages
    watch: Watch | None = None
    share: float = 1.0  # of each epoch's steps; less than all for a trial
    begin: Path | None = None  # weights to begin from
    logger: Any = None  # one of Lightning's
    kept: Any = None  # tidemill.learners.lightning.loop.Kept: checkpoints on the way
    parts: int = 1  # into which a batch is cut, where `kept` does not say it
    callbacks: Sequence[Any] = ()  # Lightning's
    lessons: Lessons | None = None


SHARE = "share of "  # begins the metric of a source's share of what was trained on


@dataclass(frozen=True)
class Fitted:
    """What came of a training: its validation metrics, and the optimisation steps it took."""

    metrics: dict[str, float]
    steps: int


class Learner(Protocol):
    """One training, whatever library does it."""

    def fit(self, run: Run) -> Fitted:
        """Train from the beginning, or from where `run.kept` was killed."""

    def save(self, path: Path) -> None:
        """The trained weights as safetensors: data alone, nothing that runs."""

    def load(self, path: Path) -> None:
        """Be as trained, from what `save` wrote."""

    def export(self, package: Path) -> float:
        """Write the ONNX graphs and what the predictor needs beside them.

        Returns the largest absolute difference between what was trained and ONNX Runtime.
        """

    def incompatible(self, package: Path) -> str:
        """Why an earlier package's weights mean something else than today's data.

        "" if they fit.
        """


@runtime_checkable
class Shrinks(Learner, Protocol):
    """A learner whose trained network can be made smaller."""

    def shrink(self, into: Learner) -> None:
        """Give the learner of pruned fields the weights, those of the least weight left out."""


# Defaults --------------------------------------------------------------------------------


def alike(one: Any, two: Any, within: float = 0.01) -> bool:
    """Whether two values are the same, numbers within a hundredth of 1 or of themselves."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key], within) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        pairs = zip(one, two, strict=False)
        return len(one) == len(two) and all(alike(a, b, within) for a, b in pairs)
    if isinstance(one, int | float) and isinstance(two, int | float) and not isinstance(one, bool):
        return abs(one - two) <= within * max(1.0, abs(one))
    return bool(one == two)


def measures(model: BaseModel) -> dict[str, float | str]:
    """The numbers among a model's fields, and the lengths of its texts and lists."""
    numbers: dict[str, float | str] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, bool | int | float):
            numbers[name] = float(value)
        elif isinstance(value, str | list | tuple):
            numbers[f"{name}_length"] = float(len(value))
    return numbers


def exchange(question: BaseModel, answer: BaseModel) -> dict[str, float | str]:
    """Lengths and numbers of a question and its answer."""
    asked = {f"asked_{name}": value for name, value in measures(question).items()}
    return {**asked, **measures(answer)}


def noted(
    application: Application[Any, Any, Any], question: BaseModel, answer: BaseModel
) -> dict[str, float | str]:
    """What is kept of a served question for drift: by default lengths and numbers alone."""
    if isinstance(application, Monitored):
        return application.noted(question, answer)
    return exchange(question, answer)


def golden(
    application: Application[Any, Any, Any], predictor: Predictor[Any, Any]
) -> list[BaseModel]:
    """The questions that a package must answer: its own, or the application's."""
    if isinstance(predictor, OwnQuestions):
        return list(predictor.golden())
    return list(application.golden())


def unfit(predictor: Predictor[Any, Any], question: BaseModel) -> str:
    """Why a package cannot be asked a question; "" where it can."""
    return predictor.unfit(question) if isinstance(predictor, OwnQuestions) else ""


# The applications there are --------------------------------------------------------------


def _own() -> list[str]:
    recipes = import_module("recipes")

    folder = Path(recipes.__path__[0])
    return sorted(
        path.stem if path.suffix == ".py" else path.name
        for path in folder.iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "recipe.py").is_file())
    )


def _others() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """The applications there are: those of recipes/, and those of installed packages."""
    return sorted({*_own(), *_others()})


def packaged(name: str) -> bool:
    """Whether an application comes with an installed package and not from recipes/."""
    return name in _others() and name not in _own()


def _module(name: str) -> str:
    if name in _own():
        folder = Path(import_module("recipes").__path__[0])
        return f"recipes.{name}.recipe" if (folder / name).is_dir() else f"recipes.{name}"
    if name in _others():
        return _others()[name].partition(":")[0]
    raise KeyError(name)


def load(name: str) -> type[Recipe]:
    """An application's recipe by its name, never by an import path.

    KeyError where there is none.
    """
    module = import_module(_module(name))
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Recipe)
        and item.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one Recipe, it has {len(own)}")
    return own[0]


def application(name: str) -> Application[Any, Any, Any]:
    """The question of an application, by its name. KeyError where there is none."""
    return load(name).application()


def watch(name: str, metric: str) -> Watch:
    """A validation metric of an application with its direction."""
    return Watch(metric, load(name).validation[metric].sign)


def code(name: str) -> list[Path]:
    """Where an application's code lies, its own first: package folders and single modules.

    Those of the applications it builds on are among them.
    """
    kind = load(name)
    places = []
    for one in (*kind.__mro__, *kind.application.__mro__):
        module = sys.modules.get(one.__module__)
        ours = (
            issubclass(one, Recipe | Application)
            and one.__module__.partition(".")[0] != __package__
        )
        if ours and module and module.__file__:
            # recipes/NAME.py, or a module of no package
            alone = module.__package__ in ("", "recipes")
            places.append(Path(module.__file__) if alone else Path(module.__file__).parent)
    return list(dict.fromkeys(places))
