"""One version of one application, ready to answer: loaded, verified, rehearsed, and never changed afterwards."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from tidemill import contract
from tidemill.contract import Application, Predictor, Sampled
from tidemill.package.golden import golden
from tidemill.package.package import described, verify
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused


@dataclass(frozen=True, eq=False)
class Slot:
    """What answers. Two threads may hold two slots of one application; each tells its own version."""

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
    loaded: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def answers(self, questions: list[BaseModel]) -> list[BaseModel]:
        found = self.session.predict(questions)
        if len(found) != len(questions):
            raise Fault(
                f"{self.application} version {self.version} gave {len(found)} answers to {len(questions)} questions"
            )
        return found


def load(application: str, version: str, package: Path, digest: str) -> Slot:
    """Open a package whose signature was checked, see that its bytes are still those, and rehearse it. Raises Fault where it may not answer."""
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
        # Whatever a graph or table of another form makes the recipe or the engine raise: it cannot answer.
        raise Fault(
            f"{name} cannot answer: {type(error).__name__}: {' '.join(str(error).split())[:300]}; retrain it"
        ) from error
    card = package / "card.md"
    return Slot(
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
    )


def rehearse(
    recipe: Application[Any, Any, Any], session: Predictor[Any, Any], package: Path, name: str
) -> tuple[BaseModel, BaseModel]:
    """Ask the golden questions; Fault where an answer is none, or not what it was when the package was made. Gives the first pair."""
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
                f"{name} answers {len(expected) - same} of {len(expected)} golden questions otherwise than when it was made; retrain it here"
            )
    return questions[0], answers[0]


@dataclass(frozen=True)
class Checked:
    """A package on this machine whose digest, members and signature were found right."""

    package: Path
    digest: str


def checked(application: str, version: str, timeout_s: float = 300) -> Checked:
    """Bring and check a package in a child of its own: what checks signatures takes 40 MB, and the server keeps none of it."""
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
