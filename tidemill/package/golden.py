"""The golden questions that a package carries, with the answers its makers got.

They are asked again before it may answer anybody.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tidemill.contract import Recipe
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import write_json

GOLDEN = "golden.json"


def remember(recipe: Recipe, package: Path) -> None:
    """Write the golden questions with this package's answers into it."""
    questions = recipe.golden()
    answers = recipe.predict(recipe.open(package), questions) if questions else []
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


def golden(recipe: Recipe, package: Path, name: str) -> tuple[list[BaseModel], list[BaseModel]]:
    """The questions, and the answers the package's makers got.

    Of an older package the recipe's own questions, and no answers.
    """
    path = package / GOLDEN
    if not path.is_file():
        return recipe.golden(), []
    try:
        rows = json.loads(path.read_text())
        questions = [recipe.Input.model_validate(row["question"]) for row in rows]
        answers = [recipe.Output.model_validate(row["answer"]) for row in rows]
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise Fault(
            f"{name} was made for other questions or answers than this code's; retrain it, or go "
            f"back to the code that made it"
        ) from error
    return questions, answers
