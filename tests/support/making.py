"""python tests/support/making.py NAME ...: small real packages, registered as versions 1 and 2.

Networks of a few steps on a few rows drawn here: real graphs of the real recipes, made in seconds,
in the project it is started in. Version 2 says otherwise than version 1, so that a test can tell
from an answer which one gave it. Version 1 is the champion.
"""

import contextlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tidemill import contract
from tidemill.contract import Learner, Run, Splits
from tidemill.families.classifier import Classifier
from tidemill.runtime import paths


def tiny(name: str) -> ModuleType:
    """The application in small: its `tiny.py`, beside its recipe."""
    return import_module(contract.load(name).__module__.rpartition(".")[0] + ".tiny")


def learner(name: str, seed: int = 1) -> Learner:
    """The smallest learner of an application, on its drawn rows."""
    return contract.load(name)(**tiny(name).FIELDS).learner(Splits(splits(name), seed))


def splits(name: str) -> Path:
    folder = paths.data("splits", name)
    folder.mkdir(parents=True, exist_ok=True)
    for part, frame in tiny(name).splits().items():
        frame.to_parquet(folder / f"{part}.parquet")
    (folder / "report.json").write_text(json.dumps({"snapshot": "s" * 64}))
    return folder


def package(name: str, seed: int, to: Path) -> None:
    """Trained for a moment with a seed, exported and rehearsed as the export step does it."""
    from tidemill.engines.config.schema import Trainer
    from tidemill.package.golden import remember
    from tidemill.runtime.files import write_json

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        strategy="auto",
        precision="32-true",
        deterministic=True,
        max_epochs=1,
    )
    trained = learner(name, seed)
    trained.fit(Run(trainer, seed, 1, "test"))
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    trained.export(to)
    write_json(
        to / "recipe.json",
        {
            "application": name,
            "fields": tiny(name).FIELDS,
            "snapshot": "s" * 64,
            "key": f"key{seed}",
            "code": "c",
        },
    )
    (to / "card.md").write_text(f"# {name}\n\nMade for a test.\n")
    remember(contract.application(name), to)


def register(name: str, folder: Path, key: str) -> str:
    """Signed and registered as a held version, as the register step does it."""
    from tidemill.engines.mlflow import registry, runs, tags
    from tidemill.package import signing
    from tidemill.package.package import digests

    signing.sign(folder)
    run_id = runs.start(name, key, key)
    runs.log_files(run_id, folder, "package")
    return registry.register(
        name,
        run_id,
        digests(folder)[0],
        {tags.VERDICT: "HOLD", tags.KEY: key, tags.SNAPSHOT: "s" * 64},
    )


def otherwise(name: str, one: Path, two: Path) -> None:
    """A package that answers differently: its classes in another order; else another training's."""
    from tidemill.package.golden import remember

    application = contract.application(name)
    if not isinstance(application, Classifier):
        package(name, 2, two)
        return
    shutil.copytree(one, two, dirs_exist_ok=True)
    (two / "model.sig").unlink(missing_ok=True)
    tables = json.loads((two / "tables.json").read_text())
    key = application.open(one).names
    tables[key] = tables[key][1:] + tables[key][:1]
    (two / "tables.json").write_text(json.dumps(tables) + "\n")
    remember(application, two)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """This process in another project's folder, with its registry; put back afterwards."""
    env, here = dict(os.environ), Path.cwd()
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "TIDEMILL_")):
            del os.environ[name]
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(env)


def make_live(application: str, number: str, by: str = "a test", why: str = "made") -> None:
    """Make a registered version live in the project of the working directory."""
    from tasks.register.promote import swap
    from tidemill.engines.mlflow import registry
    from tidemill.engines.mlflow.live import live
    from tidemill.engines.mlflow.lock import held

    version = registry.version(application, number)
    assert version is not None
    with held(application):
        swap(version, by, why, live(application))


def main(names: list[str]) -> None:
    for name in names:
        one, two = paths.state("made", f"{name}-1"), paths.state("made", f"{name}-2")
        package(name, 1, one)
        numbers = [register(name, one, "key1")]
        otherwise(name, one, two)
        numbers.append(register(name, two, "key2"))
        assert numbers == ["1", "2"], numbers
        make_live(name, "1")


if __name__ == "__main__":
    paths.settle()
    warnings.filterwarnings("ignore")
    main(sys.argv[1:])
