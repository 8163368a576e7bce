"""The golden questions that a package carries, with the answers its makers got.

They are asked again before it may answer anybody.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tidemill import contract
from tidemill.contract import Application
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import write_json

GOLDEN = "golden.json"


def remember(application: Application[Any, Any, Any], package: Path) -> None:
    """Write the golden questions with this package's answers into it."""
    predictor = application.open(package)
    questions = contract.golden(application, predictor)
    answers = predictor.predict(questions) if questions else []
    write_json(
        package / GOLDEN,
        [
            {
                "question": question.model_dump(mode="json", exclude_unset=True),
                "answer": answer.model_dump(mode="json"),
            }
            for question, answer in zip(questions, answers, strict=True)
        ],
    )


def golden(
    application: Application[Any, Any, Any], package: Path, name: str
) -> tuple[list[BaseModel], list[BaseModel]]:
    """The questions, and the answers the package's makers got.

    Of an older package the application's own questions, and no answers.
    """
    path = package / GOLDEN
    if not path.is_file():
        return application.golden(), []
    try:
        rows = json.loads(path.read_text())
        return [application.Input.model_validate(row["question"]) for row in rows], [
            application.Output.model_validate(row["answer"]) for row in rows
        ]
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise Fault(
            f"{name} was made for other questions or answers than this "
            "code's; retrain it, or go back to the code that made it"
        ) from error
