"""python tests/making.py NAME ...: small real packages, registered as versions 1 and 2.

Networks of a few steps on a few rows drawn here: real graphs of the real recipes, made in seconds,
in the project it is started in. Version 2 says otherwise than version 1, so that a test can tell
from an answer which one gave it. Version 1 is the champion.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tidemill import contract
from tidemill.runtime import paths

MODELS = {
    "languages": {"bits": 10, "steps": 5, "batch": 16},
    "images": {"width": 4, "stages": 2},
    "stocks": {"hidden": 4, "folds": 1},
    "text_generation": {
        "layers": 1,
        "heads": 2,
        "width": 32,
        "context": 64,
        "vocabulary": 300,
        "batch": 4,
        "steps": 5,
        "samples": 0,
    },
}
TEXTS = {
    "deu": "Jeder Mensch hat das Recht auf Leben und Freiheit",
    "eng": "Everyone has the right to life and to liberty",
    "fra": "Tout individu a droit à la vie et à la liberté",
}


def languages() -> list[dict]:
    return [
        row({"text": f"{text} {number}"}, {"language": name}, domain="udhr")
        for name, text in TEXTS.items()
        for number in range(40)
    ]


def text_generation() -> list[dict]:
    return [
        row({"prompt": ""}, {"text": f"{text} {number}"}, language=name)
        for name, text in TEXTS.items()
        for number in range(12)
    ]


def images() -> list[dict]:
    from tidemill.kit import pictures

    random, found = np.random.default_rng(1), []
    for number in range(36):
        pixels = np.zeros((28, 28), dtype=np.uint8)
        at, across = random.integers(8, 20), number % 2
        pixels[
            slice(4, 24) if across else slice(at, at + 3),
            slice(at, at + 3) if across else slice(4, 24),
        ] = 255
        body = pictures.png(pixels)
        found.append(
            row({"image": pictures.encoded(body)}, {"label": str(across)}) | {"payload": body}
        )
    return found


def stocks() -> list[dict]:
    from recipes.stocks.windows import label

    random = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 90)))
    days = pd.bdate_range("2020-01-01", periods=90)
    lines = ["Date,Open,High,Low,Close,Volume,Adj Close"] + [
        f"{day:%Y-%m-%d},{c * 0.999:.4f},{c * 1.01:.4f},{c * 0.99:.4f},{c:.4f},1000,{c:.4f}"
        for day, c in zip(days, close, strict=True)
    ]
    documents = pd.DataFrame(
        [{"doc_id": "d", "part": "AAA", "payload": "\n".join(lines).encode(), "source": "stocks"}]
    )
    return [
        dict(item)
        | {"part": "AAA", "example_id": hashlib.sha256(item["inputs"].encode()).hexdigest()}
        for item in label(documents, 20, {}).to_dict("records")
    ]


def row(inputs: dict, target: dict, **slices: str) -> dict:
    asked = json.dumps(inputs, ensure_ascii=False)
    return {
        "example_id": hashlib.sha256((asked + str(target)).encode()).hexdigest(),
        "inputs": asked,
        "target": json.dumps(target, ensure_ascii=False),
        "unit": asked[:80],
        "slices": json.dumps(slices),
        "payload": None,
    }


def splits(name: str) -> Path:
    folder = paths.data("splits", name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame(globals()[name]())
    parts = {
        "train": rows.iloc[: len(rows) // 2],
        "valid": rows.iloc[len(rows) // 2 : -8],
        "test": rows.iloc[-8:],
    }
    if name != "stocks":
        rows = rows.sort_values("example_id")  # hashes, so a random order, and always the same
        parts = {"train": rows.iloc[::2], "valid": rows.iloc[1::4], "test": rows.iloc[3::4]}
    for part, frame in parts.items():
        frame.to_parquet(folder / f"{part}.parquet")
    (folder / "report.json").write_text(json.dumps({"snapshot": "s" * 64}))
    return folder


def package(name: str, seed: int, to: Path) -> None:
    """Trained for a moment with a seed, exported and rehearsed as the export step does it."""
    from tidemill.engines.config.schema import Trainer
    from tidemill.learners.lightning.loop import fit
    from tidemill.package.golden import remember
    from tidemill.runtime.files import write_json

    recipe = contract.load(name)(**MODELS[name])
    data = recipe.datamodule(splits(name), seed)
    module, *_ = fit(
        recipe,
        data,
        Trainer(
            accelerator="cpu",
            devices=1,
            strategy="auto",
            precision="32-true",
            deterministic=True,
            max_epochs=1,
        ),
        seed,
        1,
        None,
        "test",
    )
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    recipe.export(module.eval(), data, to)
    write_json(
        to / "recipe.json",
        {
            "application": name,
            "fields": MODELS[name],
            "snapshot": "s" * 64,
            "key": f"key{seed}",
            "code": "c",
        },
    )
    (to / "card.md").write_text(f"# {name}\n\nMade for a test.\n")
    remember(recipe, to)


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
    """A package that answers differently.

    The classes' names in another order; else another training's.
    """
    from tidemill.package.golden import remember

    if name not in ("languages", "images"):
        package(name, 2, two)
        return
    shutil.copytree(one, two, dirs_exist_ok=True)
    (two / "model.sig").unlink(missing_ok=True)
    tables = json.loads((two / "tables.json").read_text())
    key = "languages" if name == "languages" else "labels"
    tables[key] = tables[key][1:] + tables[key][:1]
    (two / "tables.json").write_text(json.dumps(tables) + "\n")
    remember(contract.load(name)(**MODELS[name]), two)


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
