"""Configuration: OmegaConf merges the files, pydantic judges the result.

The only door to omegaconf. Every refusal names the key, the value and the choices.
"""

import logging
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from tidemill import contract
from tidemill.contract import application as application_of
from tidemill.contract import load as load_recipe
from tidemill.contract import names as recipe_names
from tidemill.engines.config.schema import (
    DATA_HALF,
    MODEL_HALF,
    General,
    Quality,
    Recipe,
    Runtime,
    Source,
    Use,
)
from tidemill.engines.config.schema.judging import misread
from tidemill.runtime.errors import Refused
from tidemill.runtime.paths import conf

log = logging.getLogger(__name__)


def _read(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        value = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise Refused(
            f"{_shown(path)} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(value, dict):
        raise Refused(f"{_shown(path)} must hold a mapping")
    return {str(key): item for key, item in value.items()}


def _shown(path: Path) -> str:
    return (
        path.relative_to(conf().parent).as_posix()
        if path.is_relative_to(conf().parent)
        else str(path)
    )


def files(kind: str) -> list[str]:
    """The names in one folder of conf/: source, recipe, quality, trainer or runtime."""
    return sorted(path.stem for path in (conf() / kind).glob("*.yaml"))


def _file(kind: str, name: str) -> dict[str, Any]:
    path = conf() / kind / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9_]+", name) or not path.is_file():
        raise Refused(f"no {kind} '{name}'; conf/{kind} has {', '.join(files(kind)) or 'none'}")
    return _read(path)


def problems(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """All problems of one input on one line: key, value, what was expected."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            parent = _field(model, item["loc"][:-1])
            choices = f"; there are {', '.join(sorted(parent))}" if parent else ""
            parts.append(f"unknown key '{key}'{choices}")
        elif item["type"] == "missing":
            parts.append(f"'{key}' is missing")
        elif item["type"] == "value_error":
            parts.append(f"{key + ': ' if key else ''}{item['ctx']['error']!s}")
        else:
            parts.append(f"{key}={item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return f"{where}: {'; '.join(parts)}"


def _field(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The field names at a place within a model, for the list of choices."""
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
        for inner in getattr(model, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(getattr(model, "model_fields", {}))


def general() -> General:
    try:
        return General.model_validate(_read(conf() / "config.yaml"))
    except ValidationError as error:
        raise Refused(problems(error, "conf/config.yaml", General)) from error


def source(name: str) -> Source:
    """conf/source/NAME.yaml, judged."""
    try:
        return Source.model_validate({"name": name, **_file("source", name)})
    except ValidationError as error:
        raise Refused(problems(error, f"conf/source/{name}.yaml", Source)) from error


def runtime(name: str = "local") -> Runtime:
    """conf/runtime/NAME.yaml, judged: what a data step runs on. It changes no byte of what comes out."""
    try:
        return Runtime.model_validate({**_file("runtime", name), "name": name})
    except ValidationError as error:
        raise Refused(problems(error, f"conf/runtime/{name}.yaml", Runtime)) from error


def sources(name: str) -> list[str]:
    """The sources that an application's file names; nothing else of it is judged."""
    try:
        uses = TypeAdapter(tuple[Use, ...]).validate_python(_file("recipe", name).get("sources"))
    except ValidationError as error:
        raise Refused(problems(error, f"conf/recipe/{name}.yaml: sources", Use)) from error
    return [use.name for use in uses]


def quality(name: str) -> Quality:
    """conf/quality/NAME.yaml, judged."""
    try:
        return Quality.model_validate(_file("quality", name))
    except ValidationError as error:
        raise Refused(problems(error, f"conf/quality/{name}.yaml", Quality)) from error


def recipe(name: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """One application's configuration, resolved and judged.

    Overrides are `key=value`, of the model half only; `trainer=NAME` and `runtime=NAME` choose a file.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    sys.audit("tidemill.config.recipe", name, *overrides)  # a test counts these
    if name not in recipe_names():
        raise Refused(f"no recipe '{name}'; recipes/ has {', '.join(recipe_names())}")
    own = _file("recipe", name)
    dotted, chosen = _overrides(name, overrides)
    trainer = chosen.get("trainer") or str((own.get("trainer") or {}).get("name", "cpu"))
    runtime = chosen.get("runtime") or str((own.get("runtime") or {}).get("name", "local"))
    layers = [
        {"seed": _read(conf() / "config.yaml").get("seed", 1)},
        {"trainer": {**_file("trainer", trainer), "name": trainer}},
        {"runtime": {**_file("runtime", runtime), "name": runtime}},
        {"application": name, **own},
        {"trainer": {"name": trainer}, "runtime": {"name": runtime}},
    ]
    try:
        merged = OmegaConf.merge(
            *[OmegaConf.create(layer) for layer in layers], OmegaConf.from_dotlist(dotted)
        )
        whole = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise Refused(f"{' '.join(dotted)}: {' '.join(str(error).split())}") from error
    where = f"conf/recipe/{name}.yaml" + (f" with {' '.join(overrides)}" if overrides else "")
    try:
        judged = Recipe.model_validate(whole)
    except ValidationError as error:
        raise Refused(problems(error, where, Recipe)) from error
    application = load_recipe(name)
    try:
        application(**judged.model)
    except ValidationError as error:
        text = problems(error, where, application)
        raise Refused(
            text.replace("key '", "key 'model.").replace(f"{where}: ", f"{where}: model: ", 1)
        ) from error
    if wrong := misread(judged.gates, application_of(name).metrics):
        raise Refused(f"{where}: {'; '.join(wrong)}")
    unknown = sorted(set(judged.sweep.space) - set(application.model_fields))
    if unknown:
        raise Refused(
            f"{where}: sweep.space names {', '.join(unknown)}; the model has {', '.join(application.model_fields)}"
        )
    if judged.sweep.metric not in application.validation:
        raise Refused(
            f"{where}: sweep.metric={judged.sweep.metric}: the training gives "
            f"{', '.join(application.validation)}"
        )
    _able(judged, application, where)
    if judged.teach.model:
        try:
            application(**{**judged.model, **judged.teach.model})
        except ValidationError as error:
            text = problems(error, where, application)
            raise Refused(
                text.replace("key '", "key 'teach.model.").replace(
                    f"{where}: ", f"{where}: teach.model: ", 1
                )
            ) from error
    for use in judged.sources:
        source(use.name)
    if judged.select.quality:
        quality(judged.select.quality)
    return judged


def _able(judged: Recipe, application: type[contract.Recipe], where: str) -> None:
    """Refuse what the application cannot do, before anything is spent."""
    name = judged.application
    asked: tuple[tuple[bool, type, type, str], ...] = (
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
    for wanted, kind, capability, why in asked:
        if wanted and not issubclass(kind, capability):
            raise Refused(f"{where}: {why}")


def sound() -> dict[str, Recipe]:
    """The applications whose file holds; one whose does not is named in the log and leaves the others alone."""
    found = {}
    for name in files("recipe"):
        try:
            found[name] = recipe(name)
        except Refused as error:
            log.error("%s is left out until this is mended: %s", name, error)
    return found


def nightly() -> dict[str, Recipe]:
    """The applications that the clock retrains."""
    return {name: judged for name, judged in sound().items() if judged.nightly}


def _overrides(
    name: str, overrides: tuple[str, ...] | list[str]
) -> tuple[list[str], dict[str, str]]:
    dotted, chosen = [], {}
    for item in overrides:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise Refused(f"'{item}' is not key=value, as in model.dim=32")
        top = key.split(".")[0]
        if top in DATA_HALF:
            raise Refused(
                f"'{key}' is a data setting, and data has one truth: edit conf/recipe/{name}.yaml"
            )
        if key in ("trainer", "runtime"):
            _file(key, value)
            chosen[key] = value
        elif top not in Recipe.model_fields or top in (
            "application",
            "summary",
            "nightly",
            "cron",
            "timezone",
        ):
            choices = [*(n for n in MODEL_HALF if n in Recipe.model_fields), "runtime"]
            raise Refused(f"unknown key '{key}'; there are {', '.join(choices)}")
        else:
            dotted.append(item)
    return dotted, chosen


def check_hardware(config: Recipe) -> None:
    """Refuse a trainer this machine cannot run, before any work."""
    if config.trainer.accelerator == "gpu" and not _gpus():
        raise Refused(
            f"trainer={config.trainer.name} needs a GPU and this machine has none; use trainer=cpu"
        )
    if config.trainer.accelerator == "gpu" and config.trainer.devices > _gpus():
        raise Refused(
            f"trainer={config.trainer.name} wants {config.trainer.devices} GPUs and this machine has {_gpus()}; say trainer.devices={_gpus()}"
        )


@lru_cache
def _gpus() -> int:
    """NVIDIA devices the kernel shows; asked without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
