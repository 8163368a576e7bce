"""Export: trained weights to the package that is judged, registered and served."""

import json
from pathlib import Path

from tasks.errors import Fault
from tasks.files import digest, sha256
from tasks.receipts import Exported
from tasks.step import step

ALLOWED = (".onnx", ".json", ".md", ".txt", ".safetensors", ".npz")


@step("export {application}")
def export(application: str, overrides: list[str]) -> Exported:
    """Write the ONNX package and compare it with the torch model."""
    from tasks import plan

    return plan.do("export", Exported, plan.make(application, overrides), overrides)


def digests(package: Path) -> tuple[str, dict[str, str]]:
    """A package's digest, and each file's by its name."""
    files = {path.relative_to(package).as_posix(): sha256(path) for path in sorted(package.rglob("*")) if path.is_file()}
    return digest(files), files


def verify(package: Path, wanted: str, name: str) -> None:
    """Refuse a package whose bytes are not those that were judged, or that holds more than data."""
    found, files = digests(package)
    if found != wanted:
        raise Fault(f"{name} is damaged: its package has digest {found[:12]}, {wanted[:12]} was registered; roll back or retrain")
    strange = [file for file in files if not file.endswith(ALLOWED)]
    if strange:
        raise Fault(f"{name} holds {', '.join(strange)}; a package holds {', '.join(ALLOWED)} only")


def described(package: Path) -> dict:
    """recipe.json: which application, with which fields, from which snapshot."""
    return json.loads((package / "recipe.json").read_text())
