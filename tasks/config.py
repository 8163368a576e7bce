"""Configuration: OmegaConf merges the files, pydantic judges the result.

The only door to omegaconf. Every refusal names the key, the value and the choices.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from recipes import load as load_recipe
from recipes import names as recipe_names
from tasks.errors import Refused
from tasks.files import digest
from tasks.places import conf

DATA_HALF = ("sources", "select", "label", "split")
MODEL_HALF = ("model", "train", "trainer", "sweep", "score", "gates", "seed")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(Strict):
    """A pinned package, fetched by its own client."""

    index: Literal["pypi"]
    name: str
    version: str
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Mirror(Strict):
    """A loopback web server over a package's members."""

    host: str = Field(pattern=r"^[a-z0-9-]+\.localhost$")
    port: int = Field(default=0, ge=0, le=65535)
    members: str
    package: Package


class Rule(Strict):
    """How a stored page or member is cut into documents."""

    kind: Literal["xpath", "gettext", "whole", "table"]
    name: str = Field(description="becomes the document's `kind`")
    each: str = "/*"
    part: str = "''"
    text: str = "."
    language: str = "''"
    script: str = "''"
    original: str = ""
    namespaces: dict[str, str] = {}
    attributes: dict[str, str] = {}


class Clean(Strict):
    min_letters: int = Field(default=0, ge=0)
    max_chars: int = Field(default=100_000, ge=1)
    drop_untranslated: bool = False


class Source(Strict):
    """conf/source/NAME.yaml"""

    name: str
    kind: Literal["web", "package"]
    licence: str
    hosts: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    allow_loopback: bool = False
    delay_s: float = Field(default=1.0, ge=0)
    connections: int = Field(default=1, ge=1, le=16)
    max_failed: float = Field(default=0.05, ge=0, le=1)
    mirror: Mirror | None = None
    package: Package | None = None
    members: str = "*"
    selector: tuple[Rule, ...] = Field(min_length=1)
    clean: Clean

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        if self.kind == "web" and not self.seeds:
            raise ValueError("a web source needs seeds")
        if self.kind == "package" and self.package is None:
            raise ValueError("a package source needs a package")
        return self


class Use(Strict):
    """One source of a recipe."""

    name: str
    role: Literal["train", "test"] = "train"


class Select(Strict):
    """Which documents an application takes, and what counts as the same document twice."""

    kinds: tuple[str, ...] = Field(default=(), description="document kinds kept; none named: all")
    context: tuple[str, ...] = Field(default=(), description="kinds handed to label as context only")
    min_chars: int = Field(default=1, ge=0)
    twins_differ_by: tuple[str, ...] = Field(default=(), description="columns within which duplicates are sought")
    near_duplicates: float = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of word 3-grams")


class SplitRule(Strict):
    """How the examples of one source are split; membership depends on the row alone."""

    source: str
    by: Literal["hash", "values", "test"]
    column: str = ""
    valid: tuple[str, ...] | float = 0.0
    test: tuple[str, ...] | float = 0.0

    @model_validator(mode="after")
    def _fits(self) -> "SplitRule":
        if self.by == "hash":
            for name in ("valid", "test"):
                share = getattr(self, name)
                if not isinstance(share, float | int) or not 0 <= share < 1:
                    raise ValueError(f"split by hash: {name} is a share between 0 and 1, not {share!r}")
        if self.by == "values" and not (isinstance(self.valid, tuple) and isinstance(self.test, tuple)):
            raise ValueError("split by values: valid and test are lists of values")
        if self.by != "test" and not self.column:
            raise ValueError(f"split by {self.by} needs a column")
        return self


class Split(Strict):
    rules: tuple[SplitRule, ...] = Field(min_length=1)
    near_duplicates: float = Field(default=0.8, gt=0, le=1)


class Trainer(Strict):
    """Lightning's Trainer: the hardware, and how long."""

    name: str = "cpu"
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: int = Field(ge=1)
    strategy: str
    precision: str
    deterministic: bool
    max_epochs: int = Field(ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)


class Runtime(Strict):
    name: str = "local"
    kind: Literal["local", "ray"]
    workers: int = Field(ge=1)


class Dimension(Strict):
    """One dimension of a sweep: a range, or choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "Dimension":
        if bool(self.choices) == (self.low is not None):
            raise ValueError("a dimension has choices, or low and high")
        if self.low is not None and (self.high is None or self.high <= self.low):
            raise ValueError(f"high must be above low, which is {self.low}")
        return self


class Sweep(Strict):
    trials: int = Field(ge=0)
    max_epochs: int = Field(default=1, ge=1, description="of a trial")
    rows: int = Field(default=0, ge=0, description="training rows of a trial; 0: all")
    share: float = Field(default=1.0, gt=0, le=1, description="of an epoch's steps that a trial makes")
    metric: str
    space: dict[str, Dimension] = {}


class Score(Strict):
    resamples: int = Field(default=10_000, ge=100, le=100_000)
    slices: tuple[str, ...] = ()
    min_rows: int = Field(default=100, ge=1, description="a slice with fewer is pooled and reported")
    min_units: int = Field(default=20, ge=2, description="with fewer, resampling lies and nothing is claimed")
    alpha: float = Field(default=0.05, gt=0, lt=0.5)


class Gate(Strict):
    """One question a candidate must answer."""

    name: str
    kind: Literal["limit", "no_worse", "better", "same", "small", "sane"]
    metric: str = ""
    against: Literal["champion", "baseline"] = "champion"
    margin: float = Field(default=0.0, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    by: str = Field(default="", description="a slice column: the gate is asked of each slice")
    required: tuple[str, ...] = Field(default=(), description="slices that must be judged")
    why: str

    @model_validator(mode="after")
    def _whole(self) -> "Gate":
        if self.kind in ("limit", "small", "same") and (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"gate {self.name}: {self.kind} needs at_least or at_most, one of them")
        if self.kind in ("limit", "no_worse", "better", "sane") and not self.metric:
            raise ValueError(f"gate {self.name}: {self.kind} needs a metric")
        return self


class Recipe(Strict):
    """conf/recipe/NAME.yaml with config, trainer, runtime and overrides merged in."""

    application: str
    summary: str
    seed: int = Field(ge=0, le=2**32 - 1)
    sources: tuple[Use, ...] = Field(min_length=1)
    select: Select
    label: dict[str, Any]
    split: Split
    model: dict[str, Any] = {}
    trainer: Trainer
    runtime: Runtime
    sweep: Sweep
    score: Score
    gates: tuple[Gate, ...]
    nightly: bool = False
    cron: str | None = None
    timezone: str = "UTC"

    @field_validator("gates")
    @classmethod
    def _gates(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if not gates:
            raise ValueError("no gates, no promotion: write at least one under `gates:`")
        names = [gate.name for gate in gates]
        if len(set(names)) < len(names):
            raise ValueError(f"two gates share a name: {', '.join(sorted(n for n in names if names.count(n) > 1))}")
        return gates

    @model_validator(mode="after")
    def _agree(self) -> "Recipe":
        used = {use.name for use in self.sources}
        ruled = {rule.source for rule in self.split.rules}
        if used != ruled:
            raise ValueError(f"split.rules must name each source once: {', '.join(sorted(used ^ ruled))}")
        for use in self.sources:
            rule = next(r for r in self.split.rules if r.source == use.name)
            if (use.role == "test") != (rule.by == "test"):
                raise ValueError(f"source {use.name} has role {use.role}, its split rule is {rule.by!r}")
        return self

    def half(self) -> dict[str, Any]:
        """The model half, resolved: what a run's key depends on besides data and code."""
        whole = self.model_dump(mode="json")
        return {name: whole[name] for name in MODEL_HALF if name in whole}

    def digest(self) -> str:
        return digest(self.half())


class Step(Strict):
    retries: int = Field(ge=0, le=10)
    retry_delay_s: tuple[float, ...]
    timeout_minutes: float = Field(gt=0)


class Collect(Strict):
    user_agent: str
    contact: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1, le=10)
    max_page_mb: float = Field(gt=0)


class General(Strict):
    """conf/config.yaml"""

    seed: int
    collect: Collect
    step: Step


def _read(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        value = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise Refused(f"{_shown(path)} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise Refused(f"{_shown(path)} must hold a mapping")
    return {str(key): item for key, item in value.items()}


def _shown(path: Path) -> str:
    return path.relative_to(conf().parent).as_posix() if path.is_relative_to(conf().parent) else str(path)


def files(kind: str) -> list[str]:
    """The names in one folder of conf/: source, recipe, trainer or runtime."""
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


def recipe(name: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """One application's configuration, resolved and judged.

    Overrides are `key=value`, of the model half only; `trainer=NAME` and `runtime=NAME` choose a file.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

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
        merged = OmegaConf.merge(*[OmegaConf.create(layer) for layer in layers], OmegaConf.from_dotlist(dotted))
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
        raise Refused(text.replace("key '", "key 'model.").replace(f"{where}: ", f"{where}: model: ", 1)) from error
    unknown = sorted(set(judged.sweep.space) - set(application.model_fields))
    if unknown:
        raise Refused(
            f"{where}: sweep.space names {', '.join(unknown)}; the model has {', '.join(application.model_fields)}"
        )
    for use in judged.sources:
        source(use.name)
    return judged


def _overrides(name: str, overrides: tuple[str, ...] | list[str]) -> tuple[list[str], dict[str, str]]:
    dotted, chosen = [], {}
    for item in overrides:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise Refused(f"'{item}' is not key=value, as in model.dim=32")
        top = key.split(".")[0]
        if top in DATA_HALF:
            raise Refused(f"'{key}' is a data setting, and data has one truth: edit conf/recipe/{name}.yaml")
        if key in ("trainer", "runtime"):
            _file(key, value)
            chosen[key] = value
        elif top not in Recipe.model_fields or top in ("application", "summary"):
            choices = [*(n for n in MODEL_HALF if n in Recipe.model_fields), "runtime"]
            raise Refused(f"unknown key '{key}'; there are {', '.join(choices)}")
        else:
            dotted.append(item)
    return dotted, chosen


def check_hardware(config: Recipe) -> None:
    """Refuse a trainer this machine cannot run, before any work."""
    if config.trainer.accelerator == "gpu" and not _gpus():
        raise Refused(f"trainer={config.trainer.name} needs a GPU and this machine has none; use trainer=cpu")


@lru_cache
def _gpus() -> int:
    """NVIDIA devices the kernel shows; asked without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))

