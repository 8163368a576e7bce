"""A new application, whole or not at all."""

import importlib
import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import recipes
from tidemill import contract
from tidemill.cli.new.survey import SurveyResult, survey
from tidemill.cli.new.tables import survey_table
from tidemill.cli.new.write import module, places_of, recipe, source
from tidemill.engines import config
from tidemill.engines.config.schema import Score
from tidemill.engines.dvc import graph
from tidemill.families.tables.fields import TableRecipe
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, write

TABLES = "tables"
COLUMNS = (
    "text",
    "label",
    "key",
    "date",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "adjusted",
    "group",
)


@dataclass(frozen=True)
class NewApplication:
    """What was made, as paths from the project's folder, and what to know of it."""

    application: str
    like: str
    found: str
    rows: int
    made: dict[str, str]
    graph: str
    notes: list[str]
    next: tuple[str, str]


def make(
    name: str, like: str, data: Path, columns: dict[str, str], summary: str = ""
) -> NewApplication:
    """Module, YAML, source and graph of a new application.

    Everything is looked at before anything is
    written. Refused leaves nothing behind, and neither does a fault.
    """
    root = paths.root()
    _named(name, root)
    kind = _like(like)
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise Refused(f"--column {unknown[0]}=...: there are {', '.join(COLUMNS)}")
    path = _there(data, root)
    found, kind = _surveyed(name, like, kind, path, columns)
    where = places_of(root, name)
    bodies = {
        "source": source(name, _shown(path, root), found),
        "module": module(name, like, kind, found, path.name),
        "recipe": recipe(name, like, kind, _text(like, root), found, summary or found.summary),
    }
    if contract.packaged(name):  # its module is there; what it lacks is its configuration
        _check_packaged(name, like, kind)
        del bodies["module"]
    with locked(paths.state("locks", "new")):
        _named(name, root)
        _written(
            name, {where[key]: body for key, body in bodies.items()}, where["module"].parent, root
        )
    return NewApplication(
        application=name,
        like=like,
        found=found.told,
        rows=found.rows,
        made={key: where[key].relative_to(root).as_posix() for key in where if key in bodies},
        graph="dvc.yaml",
        notes=_notes(found, config.recipe(name).score),
        next=(f"tidemill run {name} --dry-run", f"tidemill run {name}"),
    )


def _shown(path: Path, root: Path) -> str:
    """The data's place: relative to the project where it lies within, whole elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _text(recipe: str, root: Path) -> str:
    return (root / "conf" / "recipe" / f"{recipe}.yaml").read_text()


def _check_packaged(name: str, like: str, kind: type[contract.Recipe]) -> None:
    """Refuse an installed package's application that reads something else than its like."""
    own = reads(contract.load(name))
    if own != reads(kind):
        raise Refused(
            f"{name} is an installed package's and reads {own or 'what it alone knows'}, "
            f"{like} reads {reads(kind)}; choose another --like, or another name"
        )


def _notes(found: SurveyResult, score: Score) -> list[str]:
    """What the data is too small for."""
    test = found.split["test"]
    share = test if isinstance(test, float) else 1.0
    about = f"about {found.rows * share:.0f} of {found.rows:,} rows will be for testing"
    notes = []
    if found.rows * share < 1.5 * score.min_units:
        notes.append(
            f"{about}, and nothing is claimed of fewer than {score.min_units}: "
            "expect HOLD until there are more"
        )
    elif found.rows * share < score.min_rows:
        notes.append(
            f"{about}: too few to judge classes and other slices one by one, "
            f"which takes {score.min_rows} each"
        )
    few = [name for name, count in found.counts.items() if count * share < 2]
    if few:
        notes.append(f"{', '.join(few[:5])} may have no row for testing")
    return notes


def _named(name: str, root: Path) -> None:
    if (
        not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
        or len(name) > 40
        or keyword.iskeyword(name)
    ):
        raise Refused(
            f"'{name}' cannot be a name: up to 40 small letters, digits and single "
            "underscores, a letter first, no word of Python's, as leaf_pictures"
        )
    taken = {
        *(each for each in contract.names() if not contract.packaged(each)),
        *config.files("recipe"),
    }
    if name in taken:
        raise Refused(
            f"there is an application '{name}' already; taken are {', '.join(sorted(taken))}"
        )
    if name in config.files("source"):
        raise Refused(
            f"there is a source '{name}' already; taken are {', '.join(config.files('source'))}"
        )
    there = [
        path for path in (root / "recipes" / name, root / "recipes" / f"{name}.py") if path.exists()
    ]
    if there:
        raise Refused(
            f"{(there or [root / 'recipes' / name])[0].relative_to(root)} "
            "is taken; choose another name, or move it away"
        )
    own = Path(recipes.__path__[0])
    if own != root / "recipes":
        raise Refused(
            f"this tidemill runs from {own.parent} and the project is "
            f"{root}; use the project's own: python -m tidemill.cli new"
        )


def reads(kind: type[contract.Recipe]) -> str:
    """The kind of data an application is made of; empty: it is no template."""
    question = kind.application
    return question.reads if issubclass(question, contract.Template) else ""


def _like(like: str) -> type[contract.Recipe]:
    can = {
        name: kind
        for name in config.files("recipe")
        if name in contract.names() and reads(kind := contract.load(name))
    }
    if like not in can:
        raise Refused(
            f"--like {like}: there are "
            f"{', '.join(f'{name} ({reads(kind)})' for name, kind in sorted(can.items()))}"
        )
    return can[like]


def _surveyed(
    name: str, like: str, kind: type[contract.Recipe], path: Path, columns: dict[str, str]
) -> tuple[SurveyResult, type[contract.Recipe]]:
    """What the data is, and the recipe that the new one subclasses."""
    if reads(kind) != TABLES:
        return survey(reads(kind), name, path, columns), kind
    refuse_grouped(like)
    return survey_table(path, columns), TableRecipe  # the like's facts are of its own table


def refuse_grouped(like: str) -> None:
    """Refuse a table's application whose gates are about groups of its own table."""
    from tidemill.families.tables.examples import options_of  # loads pandas

    slices = options_of(config.recipe(like).label.options()).slices
    if slices:
        raise Refused(
            f"--like {like}: it is judged by {', '.join(slices)}, columns of its own "
            "table; say --like another application of tables, and add label.slices and gates "
            f"as {like} has them"
        )


def _there(data: Path, root: Path) -> Path:
    """The folder or file, by its own name and not a link's."""
    if not data.exists():
        raise Refused(f"--data: {data} does not exist; name a folder, or a table in a file")
    path = data.resolve()
    if root.is_relative_to(path):
        raise Refused(
            f"--data: {data} holds this project itself; name the folder of your data alone"
        )
    if any(
        path.is_relative_to(root / each)
        for each in (".tidemill", ".dvc", "data", "recipes", "conf")
    ):
        raise Refused(f"--data: {data} is a folder of the project's own; put your data elsewhere")
    return path


def _written(name: str, bodies: dict[Path, str], package: Path, root: Path) -> None:
    """All files, judged where they lie, and the graph made from them.

    Where anything fails, none of them stays.
    """
    dvc_yaml = root / "dvc.yaml"
    before = dvc_yaml.read_text() if dvc_yaml.is_file() else None
    try:
        for path, body in bodies.items():
            write(path, body)
        importlib.invalidate_caches()
        config.recipe(name)
        graph.refresh()
    except BaseException:
        for path in bodies:
            path.unlink(missing_ok=True)
        if package / "recipe.py" in bodies:
            shutil.rmtree(package, ignore_errors=True)
            for module in [one for one in sys.modules if one.startswith(f"recipes.{name}")]:
                del sys.modules[module]
        if before is not None and dvc_yaml.read_text() != before:
            write(dvc_yaml, before)
        raise
