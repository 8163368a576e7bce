"""python -m tasks.export --run PATH, or RECIPE [key=value ...]: the trained weights to an ONNX package."""

import shutil
import warnings
from pathlib import Path

import pandas as pd

from tasks.export.ensemble import average
from tasks.export.quantise import best
from tidemill import contract
from tidemill.contract import Recipe
from tidemill.learners.lightning.loop import rebuilt
from tidemill.package.golden import remember
from tidemill.package.package import digests
from tidemill.records.receipts import Exported, Trained
from tidemill.run import main, plan
from tidemill.runtime import process
from tidemill.runtime.files import write, write_json


def export(this: plan.Plan) -> Exported:
    warnings.filterwarnings("ignore", module=r"torch|copyreg|onnx")
    trained = plan.read("train", Trained, this)
    process.progress(0, 2, "graphs")
    recipe = contract.load(this.application)(**trained.model)
    part, package = this.folder / "package.part", this.folder / "package"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    parity = graph(recipe, this, trained, part)
    if trained.members:
        folders = []
        for name in trained.members:
            folders.append(this.folder / f"package.{name}")
            shutil.rmtree(folders[-1], ignore_errors=True)
            folders[-1].mkdir()
            own = type(recipe)(**trained.fields[name])
            parity = max(parity, graph(own, this, trained, folders[-1], name))
        parity = max(parity, average(recipe, [part, *folders]))
        for folder in folders:
            shutil.rmtree(folder)
    process.progress(1, 2, "graphs")
    valid = pd.read_parquet(this.splits / "valid.parquet")
    recipe.calibrate(part, valid)
    settings = this.recipe.export
    form, table = (
        best(this.application, recipe, part, valid, settings) if settings.forms else ("fp32", [])
    )
    write_json(
        part / "recipe.json",
        {
            "application": this.application,
            "fields": trained.model,
            "snapshot": this.snapshot,
            "key": this.key,
            "code": this.code,
            "form": form,
            **({"before": trained.before} if trained.before else {}),
            **({"members": trained.fields} if trained.members else {}),
        },
    )
    write(part / "card.md", card(this, trained))
    remember(recipe, part)
    shutil.rmtree(package, ignore_errors=True)
    part.replace(package)
    found, files = digests(package)
    size = sum(path.stat().st_size for path in package.iterdir())
    process.progress(2, 2, "graphs")
    return Exported(
        package=f".tidemill/runs/{this.key[:16]}/package",
        digest=found,
        files=files,
        parity=parity,
        bytes=size,
        form=form,
        forms=table,
    )


def graph(
    recipe: Recipe, this: plan.Plan, trained: Trained, folder: Path, member: str = ""
) -> float:
    """Write one network's package; its largest difference from torch."""
    data, module = rebuilt(recipe, this, trained.members[member] if member else trained.weights)
    return recipe.export(module, data, folder)


def card(this: plan.Plan, trained: Trained) -> str:
    """What a person must know about the package, in Hugging Face's sections."""
    sources = "\n".join(
        f"- {use.name} ({'test only' if use.role == 'test' else 'train and test'})"
        for use in this.recipe.sources
    )
    fields = "\n".join(f"- {name}: {value}" for name, value in sorted(trained.model.items()))
    more = (
        f" An ensemble of {1 + len(trained.members)} networks, whose outputs are averaged; the fields of the first:"
        if trained.members
        else ""
    )
    more += f" Pruned after {trained.epochs} epochs and trained on." if trained.before else ""
    metrics = "\n".join(f"- {name}: {value:.4f}" for name, value in sorted(trained.metrics.items()))
    facts = "".join(
        f"## {name[:1].upper() + name[1:]}\n\n{text}\n\n"
        for name, text in contract.load(this.application).facts.items()
    )
    return (
        f"# {this.application}\n\n{this.recipe.summary}\n\n{facts}"
        f"## Training data\n\nSnapshot `{this.snapshot}`.\n\n{sources}\n\n"
        f"## Training procedure\n\n{trained.steps} steps, seed {this.recipe.seed}, run key `{this.key}`.{more}\n\n{fields}\n\n"
        f"## Evaluation\n\nOn the validation rows:\n\n{metrics}\n\nThe test figures, by slice and with intervals, are in the run's gate table.\n"
    )


if __name__ == "__main__":
    main.of_run(export, "export")
