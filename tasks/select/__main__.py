"""python -m tasks.select RECIPE: data/clean of its sources to data/select/RECIPE."""

import pandas as pd
import pyarrow as pa

from tasks import config, places, process
from tasks.documents import DOCUMENTS, DROPPED, in_letters, save
from tasks.errors import Fault, Refused
from tasks.files import locked, write_json
from tasks.schema import Recipe
from tasks.select.bands import Bands
from tasks.select.policy import judged
from tasks.select.twins import copies


def select(name: str) -> None:
    recipe = config.recipe(name)
    out = places.data("select", name)
    with locked(places.state("locks", f"select-{name}")):
        frame = gather(recipe)
        reasons = judge(recipe, frame)
        kept = frame[reasons.isna()]
        if kept.empty:
            raise Refused(f"recipe {name}: no document is left after select; loosen `select` in conf/recipe/{name}.yaml")
        dropped = frame[reasons.notna()].assign(reason=reasons[reasons.notna()])
        dropped = dropped.assign(text=dropped["text"].str.slice(0, 200))
        save(out / "documents.parquet", _table(kept, DOCUMENTS), DOCUMENTS)
        save(out / "dropped.parquet", _table(dropped, DROPPED), DROPPED)
        write_json(out / "report.json", {
            "rows": len(kept), "dropped": dropped["reason"].value_counts().sort_index().to_dict(),
            "counts": kept["source"].value_counts().sort_index().to_dict(),
        })


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)


def gather(recipe: Recipe) -> pd.DataFrame:
    """All documents of a recipe's sources, sorted by URI, with each source's role."""
    frames = []
    for use in recipe.sources:
        path = places.data("clean", use.name) / "documents.parquet"
        if not path.is_file():
            raise Refused(f"data/clean/{use.name} has no documents; run python -m tasks.clean {use.name}")
        try:
            frames.append(pd.read_parquet(path).assign(role=use.role))
        except (pa.ArrowException, OSError) as error:
            raise Fault(f"data/clean/{use.name}/documents.parquet is damaged ({' '.join(str(error).split())[:120]}); remove it and run python -m tasks.clean {use.name}") from error
    return pd.concat(frames, ignore_index=True).sort_values(["role", "uri"], kind="stable", ignore_index=True)


def judge(recipe: Recipe, frame: pd.DataFrame) -> pd.Series:
    """Why each document is left out, or None."""
    policy = recipe.select
    reasons = pd.Series([None] * len(frame), dtype=object)
    context = frame["kind"].isin(policy.context)
    if policy.kinds:
        reasons[~frame["kind"].isin(policy.kinds) & ~context] = "another kind of part"
    reasons[reasons.isna() & ~context & frame["payload"].isna() & (frame["chars"] < policy.min_chars)] = f"shorter than {policy.min_chars} characters"
    if policy.quality:
        measured = reasons.isna() & ~context & frame["payload"].isna()
        reasons[measured] = judged(config.quality(policy.quality), policy.quality, frame[measured])
    process.progress(0, len(frame), "documents")
    left = frame[reasons.isna() & ~context]
    said = [body if payload is None else in_letters(payload) for body, payload in zip(left["text"], left["payload"], strict=True)]
    groups = list(map("\x1f".join, zip(*(left[column] for column in ("role", *policy.twins_differ_by)), strict=True)))
    with Bands(places.state("select", f"{recipe.application}.sqlite")) as bands:
        for row, (_, how) in copies(said, groups, policy.near_duplicates, bands).items():
            reasons[left.index[row]] = f"{how} duplicate"
    process.progress(len(frame), len(frame), "documents")
    return reasons


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused(f"python -m tasks.select RECIPE; conf/recipe has {', '.join(config.files('recipe'))}")
    select(arguments[0])


if __name__ == "__main__":
    process.main(main, "python -m tasks.select RECIPE: the documents an application takes, each once.")
