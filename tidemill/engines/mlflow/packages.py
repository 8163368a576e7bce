"""A version's package: logged with its run, and fetched."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.engines.mlflow.client import Missing, connect, errors, quick
from tidemill.engines.mlflow.registry import version
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

if TYPE_CHECKING:
    import numpy as np

PACKAGE = "package"  # the folder among a run's files


def save_model(
    package: Path, to: Path, name: str, example: Mapping[str, dict[str, np.ndarray]]
) -> None:
    """One graph of a package as an MLflow model, without pickle: signature and example in it.

    Of a package of several graphs MLflow describes the one named; all lie in the package beside.
    """
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    graph = onnx.load(package / f"{name}.onnx")
    arrays = {name: np.asarray(value) for name, value in example["inputs"].items()}
    signature = infer_signature(
        arrays, {name: np.asarray(value) for name, value in example["outputs"].items()}
    )
    mlflow.onnx.save_model(
        graph,
        str(to),
        signature=signature,
        input_example=arrays,
        pip_requirements=["onnxruntime", "numpy"],
        save_as_external_data=False,
    )


def fetch(application: str, number: str) -> Path:
    """A version's package on this machine, each file found to be what was registered."""
    from tidemill.package import signing
    from tidemill.package.package import digests, verify

    registered = version(application, number)
    if registered is None:
        raise Refused(
            f"no version {number} of {application}; tidemill history {application} lists what "
            f"was live"
        )
    wanted = registered.digest
    here = paths.state("packages", application, number)
    if not here.is_dir() or digests(here)[0] != wanted:
        try:
            here = fetched(registered.run_id, here)
        except Missing as missing:
            raise Fault(
                f"the package of {registered.name} is gone from MLflow's artifacts ({missing}); "
                f"bring the folder back from a backup, or roll back to another version"
            ) from missing
    name = f"{application} version {number}"
    verify(here, wanted, name)
    signing.check(here, name)
    return here


def fetched(run_id: str, here: Path) -> Path:
    """A run's package: read where it lies if that is on this machine, else copied to `here`.

    Raises `Missing` where the run or its files are gone.
    """
    here.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=here.parent, prefix=".part-") as temporary:
        registry = quick()
        got = registry.fetch(run_id, PACKAGE, Path(temporary) / "package") if registry else None
        if got is None:
            got = _downloaded(run_id, Path(temporary) / "copy")
        if not got.is_relative_to(temporary):
            return got
        shutil.rmtree(here, ignore_errors=True)
        got.replace(here)
    return here


def _downloaded(run_id: str, to: Path) -> Path:
    """A run's package by MLflow's client, which knows every kind of store."""
    import mlflow.artifacts

    connect()
    try:
        with errors():
            address = f"runs:/{run_id}/{PACKAGE}"
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=address))
    except OSError as error:  # a folder of this machine that is not there
        raise Missing(f"{type(error).__name__}: {error}") from error
    if not got.is_dir():
        raise Missing(f"run {run_id} has no folder {PACKAGE}")
    if got.is_relative_to(paths.state("artifacts")):
        return got
    return Path(shutil.copytree(got, to))
