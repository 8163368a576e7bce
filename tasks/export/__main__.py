"""python -m tasks.export RECIPE [key=value ...]: the trained weights to an ONNX package."""

import shutil
import warnings

import pandas as pd

import recipes
from tasks import plan, process
from tasks.export import digests
from tasks.export.forms import best
from tasks.export.golden import remember
from tasks.files import write, write_json
from tasks.receipts import Exported, Trained
from tasks.train.loop import rebuilt


def export(this: plan.Plan) -> Exported:
    warnings.filterwarnings("ignore", module=r"torch|copyreg|onnx")
    trained = plan.read("train", Trained, this)
    process.progress(0, 2, "graphs")
    recipe = recipes.load(this.application)(**trained.model)
    data, module = rebuilt(recipe, this, trained)
    part, package = this.folder / "package.part", this.folder / "package"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    parity = recipe.export(module, data, part)
    process.progress(1, 2, "graphs")
    valid = pd.read_parquet(this.splits / "valid.parquet")
    recipe.calibrate(part, valid)
    settings = this.recipe.export
    form, table = best(this.application, recipe, part, valid, settings) if settings.forms else ("fp32", [])
    write_json(part / "recipe.json", {
        "application": this.application, "fields": trained.model, "snapshot": this.snapshot, "key": this.key, "code": this.code, "form": form,
    })
    write(part / "card.md", card(this, trained))
    remember(recipe, part)
    shutil.rmtree(package, ignore_errors=True)
    part.replace(package)
    found, files = digests(package)
    size = sum(path.stat().st_size for path in package.iterdir())
    process.progress(2, 2, "graphs")
    return Exported(package=f".tidemill/runs/{this.key[:16]}/package", digest=found, files=files, parity=parity, bytes=size, form=form, forms=table)


def card(this: plan.Plan, trained: Trained) -> str:
    """What a person must know about the package, in Hugging Face's sections."""
    sources = "\n".join(f"- {use.name} ({'test only' if use.role == 'test' else 'train and test'})" for use in this.recipe.sources)
    fields = "\n".join(f"- {name}: {value}" for name, value in sorted(trained.model.items()))
    metrics = "\n".join(f"- {name}: {value:.4f}" for name, value in sorted(trained.metrics.items()))
    facts = "".join(f"## {name[:1].upper() + name[1:]}\n\n{text}\n\n" for name, text in recipes.load(this.application).facts.items())
    return (
        f"# {this.application}\n\n{this.recipe.summary}\n\n{facts}"
        f"## Training data\n\nSnapshot `{this.snapshot}`.\n\n{sources}\n\n"
        f"## Training procedure\n\n{trained.steps} steps, seed {this.recipe.seed}, run key `{this.key}`.\n\n{fields}\n\n"
        f"## Evaluation\n\nOn the validation rows:\n\n{metrics}\n\nThe test figures, by slice and with intervals, are in the run's gate table.\n"
    )


if __name__ == "__main__":
    plan.main("export", export)
