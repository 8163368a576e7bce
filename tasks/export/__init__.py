"""Export: trained weights to the package that is judged, registered and served."""

import json
from pathlib import Path

from tasks.errors import Fault
from tasks.export.closed import SIGNATURE, strange
from tasks.files import digest, sha256
from tasks.receipts import Exported
from tasks.step import step


@step("export {application}")
def export(application: str, overrides: list[str]) -> Exported:
    """Write the ONNX package and compare it with the torch model."""
    from tasks import plan

    return plan.do("export", Exported, plan.make(application, overrides), overrides)


def digests(package: Path) -> tuple[str, dict[str, str]]:
    """A package's digest, and each file's by its name; the signature is of these and not one of them."""
    files = {
        path.relative_to(package).as_posix(): sha256(path)
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.name != SIGNATURE
    }
    return digest(files), files


def verify(package: Path, wanted: str, name: str) -> None:
    """Refuse a package whose bytes are not those that were judged, or that holds more than data."""
    found, files = digests(package)
    if found != wanted:
        raise Fault(
            f"{name} is damaged: its package has digest {found[:12]}, {wanted[:12]} was registered; roll back or retrain"
        )
    odd = [f"{file} {why}" for file in files if (why := strange(package / file, file))]
    if odd:
        raise Fault(f"{name} is refused: {'; '.join(odd)}")


def described(package: Path) -> dict:
    """recipe.json: which application, with which fields, from which snapshot."""
    return json.loads((package / "recipe.json").read_text())
