"""python -m tasks.datasheet --run PATH: the card of the data as it lies there.

It goes into .tidemill/snapshots/RECIPE/DIGEST and MLflow's run.
"""

import shutil
from pathlib import Path

from tasks.datasheet import folder
from tasks.datasheet.counts import SPLITS, Facts, counts, shares
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig, Source
from tidemill.engines.mlflow import runs, tags
from tidemill.records.reports import VoterRow
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import markdown
from tidemill.runtime.files import locked, write
from tidemill.runtime.paths import state

MOST = 60  # lines of a table
LISTED = 40  # slices that are named


def datasheet(this: plan.Plan) -> None:
    there = folder(this.application, this.snapshot)
    with locked(state("locks", f"datasheet-{this.application}")):
        if not (there / "croissant.json").is_file():
            make(this.recipe, there)
        run_id = begin(this)
        if not runs.data(run_id).tags.get(tags.DATASHEET):
            runs.log_files(run_id, there, "datasheet")
            runs.log(run_id, tags={tags.DATASHEET: "datasheet/datasheet.md"})


def make(recipe: RecipeConfig, there: Path) -> None:
    """Write the card, whole or not at all."""
    from tasks.datasheet.croissant import check, croissant
    from tasks.datasheet.figures import draw

    facts = counts(recipe)
    part = there.with_name(f"{there.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    about = contract.application(recipe.application).facts
    sources = {use.name: config.source(use.name) for use in recipe.sources}
    pictures = draw(facts, part)
    write(part / "datasheet.md", words(recipe, facts, about, sources, pictures))
    write(part / "croissant.json", croissant(recipe, facts, about, sources))
    if wrong := check(part / "croissant.json"):
        raise Refused(f"the data's description is not sound: {'; '.join(wrong)[:500]}")
    shutil.rmtree(there, ignore_errors=True)
    part.replace(there)


def words(
    recipe: RecipeConfig,
    facts: Facts,
    about: dict[str, str],
    sources: dict[str, Source],
    pictures: list[str],
) -> str:
    """The datasheet, by the questions of Gebru et al. 2021 as far as the data can answer them."""
    lines = [
        *heading(recipe, facts),
        "## Motivation",
        about.get("intended use", recipe.summary),
        "## Composition",
        *composition(facts, len(sources), pictures),
        "## Collection",
        *collection(facts, sources),
        "## Cleaning and labelling",
        *cleaning(facts),
        "## Uses",
        *(f"- {name}: {text}" for name, text in about.items()),
        "## Maintenance",
        "A new snapshot is made on a night when a source changed; this one stays, and "
        "`tidemill data restore` brings it back by its name. `tidemill trace` names the pages of "
        "each model.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def heading(recipe: RecipeConfig, facts: Facts) -> list[str]:
    by_split = facts.examples["split"]
    sizes = [f"{int((by_split == split).sum()):,} {split}" for split in SPLITS]
    return [
        f"# The data of {recipe.application}",
        f"Snapshot `{facts.digest}`: {len(by_split):,} rows, {', '.join(sizes)}.",
    ]


def composition(facts: Facts, sources: int, pictures: list[str]) -> list[str]:
    rows = facts.examples
    languages = sum(bool(value) for value in rows["language"].unique())
    return [
        f"{rows['doc_id'].nunique():,} documents of {sources} sources, "
        f"{rows['target'].nunique():,} different answers"
        + (f", {languages:,} languages" if languages else "")
        + ".",
        *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in pictures),
        table("source", shares(rows, "source")),
        table("licence", shares(rows, "licence")),
        table("host", shares(rows, "host", MOST)),
        table("language", shares(rows, "language", MOST)) if languages else "",
    ]


def collection(facts: Facts, sources: dict[str, Source]) -> list[str]:
    first, last = facts.fetched
    opt_outs = [f"{count:,} documents {markdown(what)}" for what, count in facts.opt_outs.items()]
    return [
        *(f"- {name}: {source.kind}, {source.licence}" for name, source in sorted(sources.items())),
        f"Fetched between {first} and {last}. What the pages' owners say of training was heard "
        f"when they were fetched: {', '.join(opt_outs)}; a page that refuses is not kept.",
    ]


def cleaning(facts: Facts) -> list[str]:
    """What each step left; a line is empty where there is nothing to say."""
    doubtful = (
        f"The labels of {facts.weighted:,} examples are doubtful: in training these count by the "
        "quality of their labels (the column `weight`); in validation and test all rows count "
        "alike."
        if facts.weighted is not None
        else ""
    )
    marks = [f"{count:,} {markdown(kind)}" for kind, count in facts.personal.most_common()]
    pooled = [pooled_slices(column, names) for column, names in facts.small.items()]
    return [
        *(step_line(*step) for step in facts.steps),
        voting(facts.voters),
        doubtful,
        f"Replaced by marks: {', '.join(marks)}." if marks else "",
        f"Too small to be judged alone, so pooled: {'; '.join(pooled)}." if pooled else "",
    ]


def step_line(step: str, kept: int, lost: dict[str, int]) -> str:
    dropped = ", ".join(f"{count:,} {markdown(why)}" for why, count in lost.items())
    return f"- {step}: {kept:,} left" + (f"; dropped {dropped}" if lost else "")


def pooled_slices(column: str, names: list[str]) -> str:
    listed = markdown(",".join(names[:LISTED])) + (" ..." if len(names) > LISTED else "")
    return f"{column} {len(names)} ({listed})"


def voting(voters: list[VoterRow]) -> str:
    """The table of labelling functions; nothing where there are none."""
    if not voters:
        return ""
    return "\n".join(
        [
            "| voter | coverage | overlap | conflict | accuracy | measured on |",
            "|---|---:|---:|---:|---:|---|",
            *(_voter_line(row) for row in voters),
        ]
    )


def _voter_line(row: VoterRow) -> str:
    cells = [
        f"{markdown(row['voter'])} ({row['kind']})",
        *(f"{row[share]:.1%}" for share in ("coverage", "overlap", "conflict")),
        "" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
        markdown(row["measured_on"]),
    ]
    return f"| {' | '.join(cells)} |"


def table(name: str, found: list[tuple[str, dict[str, int]]]) -> str:
    if not found:
        return ""
    lines = [f"| {name} | train | valid | test |", "|---|---:|---:|---:|"]
    return "\n".join(
        [
            *lines,
            *(
                f"| {markdown(value)} | {rows['train']:,} | {rows['valid']:,} | {rows['test']:,} |"
                for value, rows in found
            ),
        ]
    )


if __name__ == "__main__":
    main.of_run(datasheet)
