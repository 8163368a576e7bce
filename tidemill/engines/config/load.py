"""The files of conf/, read, merged and judged.

Every refusal names the key, the value and the choices.
"""

import json
import logging
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from tidemill import contract
from tidemill.contract import application as application_of
from tidemill.contract import load as load_recipe
from tidemill.contract import names as recipe_names
from tidemill.engines.config import layers
from tidemill.engines.config.problems import problems
from tidemill.engines.config.schema import (
    DATA_HALF,
    MODEL_HALF,
    General,
    Quality,
    RecipeConfig,
    Runtime,
    Source,
    SourceUse,
    Weights,
)
from tidemill.engines.config.schema.judging import misread
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import canonical
from tidemill.runtime.paths import conf

log = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)
FIXED = ("application", "summary", "nightly", "cron", "timezone")  # no run may override these


def _read(path: Path) -> dict[str, object]:
    try:
        settings = layers.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"{_shown(path)} is missing; bring it back, as from git") from None
    except ValueError as error:
        raise Refused(f"{_shown(path)} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise Refused(f"{_shown(path)} must hold a mapping")
    return {str(key): item for key, item in settings.items()}


def _shown(path: Path) -> str:
    project = conf().parent
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else str(path)


def files(kind: str) -> list[str]:
    """The names in a folder of conf/: source, recipe, quality, trainer, runtime or weights."""
    return sorted(path.stem for path in (conf() / kind).glob("*.yaml"))


def _file(kind: str, name: str) -> dict[str, object]:
    path = conf() / kind / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9_]+", name) or not path.is_file():
        raise Refused(f"no {kind} {name!r}; conf/{kind} has {', '.join(files(kind)) or 'none'}")
    return _read(path)


def _judged(kind: type[M], settings: dict[str, object], where: str) -> M:
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise Refused(problems(error, where, kind)) from error


def general() -> General:
    """conf/config.yaml, judged."""
    return _judged(General, _read(conf() / "config.yaml"), "conf/config.yaml")


def source(name: str) -> Source:
    """conf/source/NAME.yaml, judged."""
    return _judged(Source, {"name": name, **_file("source", name)}, f"conf/source/{name}.yaml")


def weights(name: str) -> Weights:
    """conf/weights/NAME.yaml, judged."""
    return _judged(Weights, _file("weights", name), f"conf/weights/{name}.yaml")


def runtime(name: str = "local") -> Runtime:
    """conf/runtime/NAME.yaml, judged: what a data step runs on.

    It changes no byte of what comes out.
    """
    return _judged(Runtime, {**_file("runtime", name), "name": name}, f"conf/runtime/{name}.yaml")


def processes() -> int:
    """Processes of a data step, 0: one for each processor, as where conf/runtime is not there."""
    return runtime().processes if files("runtime") else 0


def sources(name: str) -> list[str]:
    """The sources that an application's file names; nothing else of it is judged."""
    try:
        uses = TypeAdapter(tuple[SourceUse, ...]).validate_python(
            _file("recipe", name).get("sources")
        )
    except ValidationError as error:
        raise Refused(problems(error, f"conf/recipe/{name}.yaml: sources", SourceUse)) from error
    return [use.name for use in uses]


def quality(name: str) -> Quality:
    """conf/quality/NAME.yaml, judged."""
    return _judged(Quality, _file("quality", name), f"conf/quality/{name}.yaml")


def recipe(name: str, overrides: Sequence[str] = ()) -> RecipeConfig:
    """One application's configuration, resolved and judged.

    Overrides are `key=value`, of the model half only; `trainer=NAME` and `runtime=NAME` choose a
    file.
    """
    sys.audit("tidemill.config.recipe", name, *overrides)  # a test counts these
    if name not in recipe_names():
        raise Refused(f"no recipe {name!r}; recipes/ has {', '.join(recipe_names())}")
    words = " ".join(" ".join(overrides).split())
    where = f"conf/recipe/{name}.yaml" + (f" with {words}" if overrides else "")
    judged = _judged(RecipeConfig, _merged(name, overrides), where)
    application = load_recipe(name)
    _check_model(application, judged.model, where, "model")
    if why := application(**judged.model).unfit(judged.trainer.strategy):
        raise Refused(f"{where}: {why}")
    _check_sweep(application, judged, where)
    _check_batch(application, judged, where)
    _check_rate(application, judged, where)
    _check_capabilities(application, judged, where)
    _check_golden(application.application, judged)
    if wrong := misread(judged.gates, application_of(name).metrics):
        raise Refused(f"{where}: {'; '.join(wrong)}")
    if judged.teach.model:
        _check_model(application, {**judged.model, **judged.teach.model}, where, "teach.model")
    for use in judged.sources:
        source(use.name)
    if judged.select.quality:
        quality(judged.select.quality)
    return judged


def _merged(name: str, overrides: Sequence[str]) -> layers.Settings:
    """config, trainer, runtime, recipe, then the overrides; later wins."""
    own = _file("recipe", name)
    dotted, chosen = _overrides(name, overrides)
    machine: layers.Settings = {}
    for kind, default in (("trainer", "cpu"), ("runtime", "local")):
        settings = own.pop(kind, None) or {}
        if not isinstance(settings, dict):
            raise Refused(
                f"conf/recipe/{name}.yaml: {kind}={settings!r} must be a mapping, "
                f"as in {kind}: {{name: {default}}}"
            )
        file = chosen.get(kind) or str(settings.get("name", default))
        machine[kind] = layers.merge([_file(kind, file), settings, {"name": file}])
    seed = _read(conf() / "config.yaml").get("seed", 1)
    golden = golden_rows(name)
    asked: layers.Settings = {"score": {"golden": golden}} if golden else {}
    return layers.merge([{"seed": seed, "application": name}, machine, own, asked, *dotted])


def golden_rows(name: str) -> list[Any]:
    """The lines of conf/golden/NAME.jsonl; none where there is no such file."""
    path = conf() / "golden" / f"{name}.jsonl"
    if not path.is_file():
        return []
    try:
        whole = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"conf/golden/{name}.jsonl is not UTF-8: {error}") from error
    rows = []
    # By line feeds alone: a text may hold other separators of lines, as U+2028.
    for number, text in enumerate(whole.split("\n"), 1):
        if not text.strip():
            continue
        try:
            rows.append(json.loads(text))
        except ValueError as error:
            raise Refused(f"conf/golden/{name}.jsonl line {number} is not JSON: {error}") from error
    return rows


def _check_golden(application: type[contract.Application], judged: RecipeConfig) -> None:
    """Refuse golden rows that are no question or no answer, or that no model can all keep."""
    first_asked: dict[str, int] = {}
    for number, row in enumerate(judged.score.golden, 1):
        for kind, part, given in (
            (application.Input, "inputs", row.inputs),
            (application.Output, "answer", row.answer),
        ):
            try:
                kind.model_validate(given)
            except ValidationError as error:
                where = f"conf/golden/{judged.application}.jsonl, row {number}"
                raise Refused(problems(error, where, kind, before=part)) from error
        first = first_asked.setdefault(canonical(row.inputs), number)
        if row.answer != judged.score.golden[first - 1].answer:
            raise Refused(
                f"conf/golden/{judged.application}.jsonl: rows {first} and {number} ask the same "
                f"and want different answers, which no model gives; keep one"
            )


def _check_model(application: Any, model: dict[str, object], where: str, key: str) -> None:
    try:
        application(**{str(name): value for name, value in model.items()})
    except ValidationError as error:
        raise Refused(problems(error, where, application, before=key)) from error


def _check_sweep(application: type[contract.Recipe], judged: RecipeConfig, where: str) -> None:
    unknown = sorted(set(judged.sweep.space) - set(application.model_fields))
    if unknown:
        raise Refused(
            f"{where}: sweep.space names {', '.join(unknown)}; "
            f"the model has {', '.join(application.model_fields)}"
        )
    if judged.sweep.metric not in application.validation:
        raise Refused(
            f"{where}: sweep.metric={judged.sweep.metric}: the training gives "
            f"{', '.join(application.validation)}"
        )


def _check_batch(application: type[contract.Recipe], judged: RecipeConfig, where: str) -> None:
    """Each device needs a row of every batch."""
    fields = application(**judged.model)
    devices = judged.trainer.devices * judged.trainer.nodes
    if isinstance(fields, contract.Batched) and fields.batch < devices:
        raise Refused(
            f"{where}: model.batch={fields.batch} is shared by {devices} devices, each of which "
            f"needs a row; say model.batch={devices} or more"
        )


def _check_rate(application: type[contract.Recipe], judged: RecipeConfig, where: str) -> None:
    own = judged.trainer.optimiser == "recipe"
    if judged.trainer.lr != "recipe" and own and "lr" not in application.model_fields:
        raise Refused(
            f"{where}: trainer.lr: {judged.application} has no field lr that its own optimiser "
            "reads; name one, as trainer.optimiser=adamw"
        )


def _check_capabilities(
    application: type[contract.Recipe], judged: RecipeConfig, where: str
) -> None:
    """Refuse what the application cannot do, before anything is spent."""
    for wanted, kind, capability, why in _capabilities(application, judged):
        if wanted and not issubclass(kind, capability):
            raise Refused(f"{where}: {why}")


def _capabilities(
    application: type[contract.Recipe], judged: RecipeConfig
) -> tuple[tuple[bool, type, type, str], ...]:
    """Of each capability: whether it is asked for, of which type, the protocol and the refusal."""
    name = judged.application
    return (
        (
            judged.trainer.start == "champion",
            application,
            contract.WarmStartable,
            f"trainer.start=champion: {name} always begins from scratch; say trainer.start=scratch",
        ),
        (
            judged.teach.by != "nobody",
            application,
            contract.Teachable,
            f"teach.by={judged.teach.by}: {name} cannot be taught; say teach.by=nobody",
        ),
        (
            judged.prune.fraction > 0,
            application,
            contract.Prunable,
            f"prune.fraction={judged.prune.fraction:g}: {name} cannot be pruned; "
            "say prune.fraction=0",
        ),
        (
            judged.ensemble.members > 1,
            application.application,
            contract.Averageable,
            f"ensemble.members={judged.ensemble.members}: the answers of {name} cannot be "
            "averaged; say ensemble.members=1",
        ),
        (
            judged.label.issues == "weight",
            application,
            contract.RowWeighted,
            f"label.issues=weight: the training of {name} counts all its rows alike; "
            "say label.issues: off",
        ),
    )


def sound() -> dict[str, RecipeConfig]:
    """The applications whose file holds.

    One whose does not is named in the log and leaves the others alone.
    """
    recipes = {}
    for name in files("recipe"):
        try:
            recipes[name] = recipe(name)
        except Refused as error:
            log.error("%s is left out until this is mended: %s", name, error)
    return recipes


def nightly() -> dict[str, RecipeConfig]:
    """The applications that the clock retrains."""
    return {name: judged for name, judged in sound().items() if judged.nightly}


def _overrides(name: str, overrides: Sequence[str]) -> tuple[list[layers.Settings], dict[str, str]]:
    """The overrides as layers, and the files that are chosen by `trainer=` and `runtime=`."""
    dotted: list[layers.Settings] = []
    chosen: dict[str, str] = {}
    for item in overrides:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise Refused(f"{item!r} is not key=value, as in model.dim=32")
        top = key.split(".")[0]
        if top in DATA_HALF:
            raise Refused(
                f"{key!r} is a data setting, and data has one truth: edit conf/recipe/{name}.yaml"
            )
        if key in ("trainer", "runtime"):
            _file(key, value)
            chosen[key] = value
            continue
        if top not in RecipeConfig.model_fields or top in FIXED:
            choices = [*(n for n in MODEL_HALF if n in RecipeConfig.model_fields), "runtime"]
            raise Refused(f"unknown key {key!r}; there are {', '.join(choices)}")
        try:
            dotted.append(layers.override(item))
        except ValueError as error:
            raise Refused(str(error)) from error
    return dotted, chosen


def check_machine(config: RecipeConfig) -> None:
    """Refuse what this machine cannot run or does not have, before any work."""
    if why := load_recipe(config.application)(**config.model).unready():
        raise Refused(f"{config.application}: {why}")
    trainer = config.trainer
    if trainer.accelerator == "gpu" and not _gpus():
        raise Refused(
            f"trainer={trainer.name} needs a GPU and this machine has none; use trainer=cpu"
        )
    if trainer.accelerator == "gpu" and trainer.devices > _gpus():
        raise Refused(
            f"trainer={trainer.name} wants {trainer.devices} GPUs and this machine has {_gpus()}; "
            f"say trainer.devices={_gpus()}"
        )


def gpus() -> int:
    """How many GPUs this machine has."""
    return _gpus()


@lru_cache
def _gpus() -> int:
    """NVIDIA devices the kernel shows; asked without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
