"""python -m tasks.export --run PATH, or RECIPE [key=value ...]: an ONNX package of the weights."""

import shutil
import warnings
from pathlib import Path

from tasks.export.ensemble import average
from tasks.export.quantise import best, calibrate
from tidemill import contract
from tidemill.contract import Recipe, Splits
from tidemill.package.golden import remember
from tidemill.package.package import digests
from tidemill.records import blobs
from tidemill.records.receipts import Exported, Trained
from tidemill.run import main, plan
from tidemill.runtime import process
from tidemill.runtime.files import write, write_json
from tidemill.runtime.receipt import File


def export(this: plan.Plan) -> Exported:
    warnings.filterwarnings("ignore", module=r"torch|copyreg|onnx")
    trained = plan.read("train", Trained, this)
    process.progress(0, 2, "graphs")
    kind = contract.load(this.application)
    application = kind.application()
    part, package = this.folder / "package.part", this.folder / "package"
    parity = graphs(kind, this, trained, part)
    process.progress(1, 2, "graphs")
    valid = blobs.examples(this.splits / "valid.parquet")
    calibrate(application, part, valid)
    settings = this.recipe.export
    form, table = (
        best(this.application, application, part, valid, settings)
        if settings.forms
        else ("fp32", [])
    )
    write_json(part / "recipe.json", described(this, trained, form))
    write(part / "card.md", card(this, trained))
    remember(application, part)
    shutil.rmtree(package, ignore_errors=True)
    part.replace(package)
    digest, files = digests(package)
    size = sum(path.stat().st_size for path in package.iterdir())
    process.progress(2, 2, "graphs")
    return Exported(
        package=f".tidemill/runs/{this.key[:16]}/package",
        digest=digest,
        files=files,
        parity=parity,
        bytes=size,
        form=form,
        forms=table,
    )


def graphs(kind: type[Recipe], this: plan.Plan, trained: Trained, part: Path) -> float:
    """Write the package of the network, or of an ensemble in one graph, into an empty folder.

    Gives the largest difference from what was trained.
    """
    _empty(part)
    parity = graph(kind(**trained.model), this, trained.weights, part)
    if not trained.members:
        return parity
    folders = []
    for name, weights in trained.members.items():
        folder = this.folder / f"package.{name}"
        _empty(folder)
        parity = max(parity, graph(kind(**trained.fields[name]), this, weights, folder))
        folders.append(folder)
    parity = max(parity, average(kind.application(), [part, *folders]))
    for folder in folders:
        shutil.rmtree(folder)
    return parity


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def described(this: plan.Plan, trained: Trained, form: str) -> dict[str, object]:
    """recipe.json: what the package was made from."""
    return {
        "application": this.application,
        "fields": trained.model,
        "snapshot": this.snapshot,
        "key": this.key,
        "code": this.code,
        "form": form,
        **({"before": trained.before} if trained.before else {}),
        **({"members": trained.fields} if trained.members else {}),
    }


def graph(recipe: Recipe, this: plan.Plan, weights: File, folder: Path) -> float:
    """Write one learner's package; its largest difference from what was trained."""
    learner = recipe.learner(Splits(this.splits, this.recipe.seed))
    learner.load(weights.open())
    return learner.export(folder)


def card(this: plan.Plan, trained: Trained) -> str:
    """What a person must know about the package, in Hugging Face's sections."""
    sources = "\n".join(
        f"- {use.name} ({'test only' if use.role == 'test' else 'train and test'})"
        for use in this.recipe.sources
    )
    fields = "\n".join(f"- {name}: {value}" for name, value in sorted(trained.model.items()))
    more = (
        f" An ensemble of {1 + len(trained.members)} networks, whose outputs are averaged; "
        "the fields of the first:"
        if trained.members
        else ""
    )
    more += f" Pruned after {trained.epochs} epochs and trained on." if trained.before else ""
    metrics = "\n".join(f"- {name}: {value:.4f}" for name, value in sorted(trained.metrics.items()))
    facts = "".join(
        f"## {name[:1].upper() + name[1:]}\n\n{text}\n\n"
        for name, text in contract.application(this.application).facts.items()
    )
    return (
        f"# {this.application}\n\n{this.recipe.summary}\n\n{facts}"
        f"## Training data\n\nSnapshot `{this.snapshot}`.\n\n{sources}\n\n"
        f"## Training procedure\n\n{trained.steps} steps, seed {this.recipe.seed}, "
        f"run key `{this.key}`.{more}\n\n{fields}\n\n"
        f"## Evaluation\n\nOn the validation rows:\n\n{metrics}\n\n"
        "The test figures, by slice and with intervals, are in the run's gate table.\n"
    )


if __name__ == "__main__":
    main.of_run(export, "export")
