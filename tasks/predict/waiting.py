"""python -m tasks.predict.waiting APPLICATION: answer the files that wait for its champion.

Of `answers` in conf/recipe. A file is answered once by each version; one that changed, again. One
that cannot be answered costs no other.
"""

from collections.abc import Iterator
from pathlib import Path

from tasks.predict.__main__ import tables, version
from tasks.predict.rows import FORMS, Questions
from tasks.predict.scoring import score
from tasks.serve.loaded_model import LoadedModel
from tidemill.engines import config
from tidemill.engines.config.schema import WaitingFiles
from tidemill.engines.mlflow.live import live
from tidemill.records.receipts import AnsweredFile, AnsweredFiles
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import line

USAGE = "python -m tasks.predict.waiting APPLICATION"


def main(arguments: list[str]) -> AnsweredFiles:
    if len(arguments) != 1:
        raise Refused(f"one application is wanted; {USAGE}")
    return answered(arguments[0])


def answered(name: str) -> AnsweredFiles:
    """Answer what waits. Raises Refused where nothing may, or nothing is there to read."""
    asked = config.recipe(name).answers
    if asked is None:
        raise Refused(
            f"{name} has no folder of waiting files; give `answers` with `reads` and `writes` in "
            f"conf/recipe/{name}.yaml"
        )
    reads, writes = paths.root() / asked.reads, paths.root() / asked.writes
    if not reads.is_dir():
        raise Refused(f"answers.reads: no folder {asked.reads}; make it, and put files there")
    if not live(name).version:
        return AnsweredFiles(application=name, version="", answered={}, unchanged=0, refused={})
    model = version(name, "")
    writes.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    refused: dict[str, str] = {}
    unchanged = 0
    waiting = list(_waiting(reads))
    for place, path in enumerate(waiting):
        process.progress(place, len(waiting), "files")
        try:
            questions = Questions(path, model.recipe.Input, asked.columns, tables(model))
            done = _one(model, questions, asked, writes)
        except Refused as error:
            refused[path.name] = line(error)
            continue
        unchanged += done is None
        if done is not None:
            rows[path.name] = done
    process.progress(len(waiting), len(waiting), "files")
    return AnsweredFiles(
        application=name,
        version=model.version,
        answered=rows,
        unchanged=unchanged,
        refused=refused,
    )


def _waiting(folder: Path) -> Iterator[Path]:
    """Files of a form that is read, and folders, by name; what begins with a dot is being made."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in FORMS):
            yield path


def _one(model: LoadedModel, questions: Questions, asked: WaitingFiles, writes: Path) -> int | None:
    """Answer a file; its rows, or None where this version had answered these."""
    # The whole name: a.csv and a.jsonl are two files.
    out = writes / f"{questions.path.name}.{asked.form}"
    receipt = paths.state("answers", model.application, f"{out.name}.json")
    wanted = AnsweredFile(
        fingerprint=questions.fingerprint(),
        version=model.version,
        digest=model.digest,
        columns=asked.columns,
    )
    if out.is_file() and AnsweredFile.load(receipt) == wanted:
        return None
    rows = score(model, questions, out, overwrite=True).rows
    receipt.parent.mkdir(parents=True, exist_ok=True)
    wanted.save(receipt)
    return rows


if __name__ == "__main__":
    process.main(main, USAGE)
