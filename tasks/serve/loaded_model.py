"""One version of one application, ready to answer: verified, loaded, rehearsed, never changed."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from tidemill import contract
from tidemill.contract import Application, Predictor, Sampled
from tidemill.package.golden import golden
from tidemill.package.package import described, verify
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What answers. Two threads may hold two versions of one application; each names its own."""

    application: str
    version: str
    digest: str
    snapshot: str
    card: str
    recipe: Application[Any, Any, Any]
    session: Predictor[Any, Any]
    one: TypeAdapter[Any]
    many: TypeAdapter[Any]
    example: tuple[BaseModel, BaseModel]
    costly_checks: bool = False  # of its questions, such as decoding a picture
    loaded: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def unfit(self, question: BaseModel) -> str:
        """Why this version cannot be asked a question that its schema allows; "" where it can."""
        return contract.unfit(self.session, question)

    def answers(self, questions: list[BaseModel]) -> list[BaseModel]:
        found = self.session.predict(questions)
        if len(found) != len(questions):
            raise Fault(
                f"{self.application} version {self.version} gave {len(found)} answers "
                f"to {len(questions)} questions"
            )
        return found


def load(application: str, version: str, package: Path, digest: str) -> LoadedModel:
    """Open a package whose signature was checked, see that its bytes are still those, rehearse it.

    Raises Fault where it may not answer.
    """
    name = f"{application} version {version}"
    verify(package, digest, name)
    told = described(package)
    if told.get("application") != application:
        raise Fault(f"{name} is a package of {told.get('application')!r}; register the right one")
    recipe = contract.application(application)
    try:
        session = recipe.open(package)
        example = rehearse(recipe, session, package, name)
    except Fault:
        raise
    except Exception as error:
        # Whatever a graph or table of another form makes the recipe or the engine raise.
        raise Fault(
            f"{name} cannot answer: {type(error).__name__}: {line(error)[:300]}; retrain it"
        ) from error
    card = package / "card.md"
    return LoadedModel(
        application=application,
        version=version,
        digest=digest,
        snapshot=str(told.get("snapshot", "")),
        card=card.read_text(errors="replace") if card.is_file() else "",
        recipe=recipe,
        session=session,
        one=TypeAdapter(recipe.Input),
        many=TypeAdapter(list[recipe.Input]),  # type: ignore[name-defined]
        example=example,
        costly_checks=checks_itself(recipe.Input),
    )


def rehearse(
    recipe: Application[Any, Any, Any], session: Predictor[Any, Any], package: Path, name: str
) -> tuple[BaseModel, BaseModel]:
    """Ask the golden questions, and give the first with its answer.

    Raises Fault where an answer is none, or not what it was when the package was made.
    """
    questions, expected = golden(recipe, package, name)
    answers = session.predict(questions)
    if len(answers) != len(questions):
        raise Fault(f"{name} gave {len(answers)} answers to {len(questions)} golden questions")
    for answer in answers:
        if not isinstance(answer, recipe.Output):
            raise Fault(
                f"{name} answers with {type(answer).__name__}, not {recipe.Output.__name__}"
            )
        recipe.Output.model_validate_json(answer.model_dump_json())
    if expected:
        same = sum(recipe.same(one, two) for one, two in zip(expected, answers, strict=True))
        steady = recipe.steady if isinstance(recipe, Sampled) else 1.0
        if same < steady * len(expected):
            raise Fault(
                f"{name} answers {len(expected) - same} of {len(expected)} golden questions "
                "otherwise than when it was made; retrain it here"
            )
    return questions[0], answers[0]


class UnsoundAnswer(Exception):
    """An answer that breaks its own schema, or has a number that is none; names the field."""


def as_json(answer: BaseModel, kind: type[BaseModel]) -> bytes:
    """An answer as JSON that its own schema allows. Raises UnsoundAnswer."""
    field = not_finite(answer.model_dump(warnings=False))
    if field is not None:
        raise UnsoundAnswer(f"the answer's {field or 'value'} is not a finite number")
    # What the schema does not allow is found by its own check below.
    body = answer.__pydantic_serializer__.to_json(answer, warnings=False)
    try:
        kind.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise UnsoundAnswer(f"the answer's {place} breaks its schema: {problem['msg']}") from None
    return body


def not_finite(value: Any, place: str = "") -> str | None:
    """Where a value holds NaN or an infinity, as `field.0`; None where nowhere."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return None
    for name, item in items:
        if type(item) is str:
            continue
        there = not_finite(item, f"{place}.{name}" if place else str(name))
        if there is not None:
            return there
    return None


def checks_itself(kind: type[BaseModel]) -> bool:
    """Whether a schema has checks written in Python, whose cost its size does not bound."""
    decorators = kind.__pydantic_decorators__
    return bool(
        decorators.validators
        or decorators.field_validators
        or decorators.root_validators
        or decorators.model_validators
    )


@dataclass(frozen=True)
class Checked:
    """A package on this machine whose digest, members and signature were found right."""

    package: Path
    digest: str


def checked(application: str, version: str, timeout_s: float = 300) -> Checked:
    """Bring and check a package in a child of its own.

    What checks signatures takes 40 MB, and the server keeps none of it.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tidemill.engines.mlflow.fetch", application, version],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        env=process.variables(),
        cwd=paths.root(),
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        words = next(
            (
                line.removeprefix("error: ")
                for line in reversed(lines)
                if line.startswith("error: ")
            ),
            lines[-1],
        )
        raise (
            Refused(words)
            if done.returncode == process.EXIT_REFUSED
            else Fault(words, heals=done.returncode == process.EXIT_AGAIN)
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return Checked(Path(told["package"]), told["digest"])


def share_of(question: bytes) -> float:
    """Where a question lies between 0 and 1: always the same place for the same question."""
    return int.from_bytes(hashlib.sha256(question).digest()[:7], "big") / 2**56
