"""The weights that a training begins from, or learns of, and their digests."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tidemill import contract
from tidemill.engines.config.schema import RecipeConfig
from tidemill.engines.mlflow import client, registry, tags
from tidemill.engines.mlflow.live import live
from tidemill.engines.packages import weights as pretrained
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import sha256, tree_digest


class Champion(BaseModel):
    """The application's own live version, as a training found it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    weights: str  # digest


def weights(judged: RecipeConfig) -> dict[str, str]:
    """What the field `start` names, with the digest of its bytes; where there is such a field."""
    kind = contract.load(judged.application)
    start = kind(**judged.model).model_dump().get("start")
    if not start:
        return {}
    return {str(start): tree_digest(pretrained.folder(str(start)))}


def champion(judged: RecipeConfig, folder: Path, before: Champion | None) -> Champion | None:
    """The own live version, where a training asks for it; None where it does not.

    It is no part of the run's key, or each promotion would train again the night after. A training
    in `folder` that has begun keeps the one it began with, `before`.
    """
    asked, remedy = _asks(judged)
    if not asked:
        return None
    begun = (*folder.glob("checkpoints*/step-*"), *folder.glob("*.safetensors"))
    if before and begun:
        return before
    name = judged.application
    number = None if client.unborn() else live(name).version
    if number is None:
        raise Refused(f"{asked}: {name} has no champion yet; {remedy}")
    key = registry.tag(name, number, tags.KEY) or ""
    path = paths.run(key) / "weights.safetensors"
    if not key or not path.is_file():
        raise Refused(
            f"the weights of {name} version {number}, to begin from, are not on this machine; "
            + remedy
        )
    return Champion(version=number, weights=sha256(path))


def _asks(judged: RecipeConfig) -> tuple[str, str]:
    """The setting that asks for the champion, and what to say instead; empty where none does."""
    if judged.trainer.start == "champion":
        return "trainer.start=champion", "say trainer.start=scratch"
    if judged.teach.by == "champion":
        return "teach.by=champion", "say teach.by=ensemble or nobody"
    return "", ""
