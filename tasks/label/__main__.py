"""python -m tasks.label RECIPE: data/select/RECIPE to data/labels/RECIPE."""

import hashlib

import pandas as pd
import pyarrow as pa

import recipes
from tasks import config, places, process
from tasks.documents import EXAMPLES, LOST, save
from tasks.errors import Refused
from tasks.files import locked, write_json


def label(name: str) -> None:
    recipe = config.recipe(name)
    out = places.data("labels", name)
    path = places.data("select", name) / "documents.parquet"
    if not path.is_file():
        raise Refused(f"data/select/{name} has no documents; run python -m tasks.select {name}")
    with locked(places.state("locks", f"label-{name}")):
        documents = pd.read_parquet(path)
        process.progress(0, len(documents), "documents")
        examples = recipes.load(name)(**recipe.model).label(documents, recipe.label)
        if "payload" not in examples:
            examples["payload"] = None
        # An example is known by its question and its document, so a changed label keeps its place in the split.
        keys = examples["doc_id"] + "\x1f" + examples["inputs"]
        examples.insert(0, "example_id", [hashlib.sha256(key.encode()).hexdigest()[:24] for key in keys])
        again = examples.merge(documents[["doc_id", "source"]], on="doc_id", how="left")
        twice = again[again["dropped"].isna()].duplicated(["source", "inputs", "target"])
        examples.loc[twice[twice].index, "dropped"] = "its source asks this question twice"
        lost = examples[examples["dropped"].notna()].assign(reason=lambda frame: frame["dropped"])
        kept = examples[examples["dropped"].isna()]
        if kept.empty:
            raise Refused(f"recipe {name}: no example is left after label; see data/labels/{name}/dropped.parquet for the reasons")
        wide = kept.merge(documents[["doc_id", "source", "part", "original"]], on="doc_id", how="left", validate="many_to_one")
        wide = wide.sort_values("example_id", kind="stable", ignore_index=True)
        lost = lost.sort_values("example_id", kind="stable", ignore_index=True)
        save(out / "examples.parquet", pa.Table.from_pandas(wide[EXAMPLES.names], schema=EXAMPLES, preserve_index=False), EXAMPLES)
        save(out / "dropped.parquet", pa.Table.from_pandas(lost[LOST.names], schema=LOST, preserve_index=False), LOST)
        write_json(out / "report.json", {
            "rows": len(wide), "dropped": lost["reason"].value_counts().sort_index().to_dict(),
            "counts": {"agreed": int((wide["confidence"] >= 0.999).sum()), "targets": int(wide["target"].nunique())},
        })
        process.progress(len(documents), len(documents), "documents")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused(f"python -m tasks.label RECIPE; conf/recipe has {', '.join(config.files('recipe'))}")
    label(arguments[0])


if __name__ == "__main__":
    process.main(main, "python -m tasks.label RECIPE: documents become examples.")
