"""python -m tasks.datasheet --run PATH: the card of the data as it lies there, into .tidemill/snapshots/RECIPE/DIGEST and MLflow's run."""

import shutil
from pathlib import Path

from tasks.datasheet import folder
from tasks.datasheet.counts import Facts, counts, shares
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.engines.mlflow import runs, tags
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import markdown
from tidemill.runtime.files import locked, write
from tidemill.runtime.paths import state

MOST = 60  # lines of a table


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
    recipe: RecipeConfig, facts: Facts, about: dict[str, str], sources: dict, pictures: list[str]
) -> str:
    """The datasheet, by the questions of Gebru et al. 2021 as far as the data can answer them."""
    rows = facts.examples
    languages = sum(bool(value) for value in rows["language"].unique())
    lines = [
        f"# The data of {recipe.application}",
        f"Snapshot `{facts.digest}`: {len(rows):,} rows, "
        + ", ".join(
            f"{int((rows['split'] == split).sum()):,} {split}"
            for split in ("train", "valid", "test")
        )
        + ".",
        "## Motivation",
        about.get("intended use", recipe.summary),
        "## Composition",
        f"{rows['doc_id'].nunique():,} documents of {len(sources)} sources, {rows['target'].nunique():,} different answers"
        + (f", {languages:,} languages" if languages else "")
        + ".",
        *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in pictures),
        table("source", shares(rows, "source")),
        table("licence", shares(rows, "licence")),
        table("host", shares(rows, "host", MOST)),
        *([table("language", shares(rows, "language", MOST))] if languages else []),
        "## Collection",
        *(f"- {name}: {source.kind}, {source.licence}" for name, source in sorted(sources.items())),
        f"Fetched between {facts.fetched[0]} and {facts.fetched[1]}. What the pages' owners say of training was heard when they were fetched: "
        + ", ".join(
            f"{count:,} documents {markdown(what)}" for what, count in facts.opt_outs.items()
        )
        + "; a page that refuses is not kept.",
        "## Cleaning and labelling",
        *(
            f"- {step}: {kept:,} left"
            + (
                f"; dropped {', '.join(f'{count:,} {markdown(why)}' for why, count in lost.items())}"
                if lost
                else ""
            )
            for step, kept, lost in facts.steps
        ),
        voting(facts.voters),
        *(
            [
                f"The labels of {facts.weighted:,} examples are doubtful: in training these count by the quality of their labels (the column `weight`); in validation and test all rows count alike."
            ]
            if facts.weighted is not None
            else []
        ),
        *(
            [
                f"Replaced by marks: {', '.join(f'{count:,} {markdown(kind)}' for kind, count in facts.personal.most_common())}."
            ]
            if facts.personal
            else []
        ),
        *(
            [
                f"Too small to be judged alone, so pooled: {'; '.join(f'{column} {len(names)} ({markdown(chr(44).join(names[:40]))}' + (' ...' if len(names) > 40 else '') + ')' for column, names in facts.small.items())}."
            ]
            if facts.small
            else []
        ),
        "## Uses",
        *(f"- {name}: {text}" for name, text in about.items()),
        "## Maintenance",
        "A new snapshot is made on a night when a source changed; this one stays, and `tidemill data restore` brings it back by its name. `tidemill trace` names the pages of each model.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def voting(found: list[dict]) -> str:
    """The voters' table; nothing where nobody votes."""
    if not found:
        return ""
    lines = [
        f"| {markdown(row['voter'])} ({row['kind']}) | {row['coverage']:.1%} | {row['overlap']:.1%} | {row['conflict']:.1%} | {'' if row['accuracy'] is None else format(row['accuracy'], '.1%')} | {markdown(row['measured_on'])} |"
        for row in found
    ]
    return "\n".join(
        [
            "| voter | coverage | overlap | conflict | accuracy | measured on |",
            "|---|---:|---:|---:|---:|---|",
            *lines,
        ]
    )


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
