"""Weights to begin from: a folder here, or a model of a hub at one revision.

`hf:org/name@REVISION` is fetched by huggingface_hub, into its own cache: what is there is not
fetched again, and HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to it.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path

from tidemill.kit.as_data import HUB
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import sha256

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,90}/[A-Za-z0-9][\w.-]{0,90}")
INDEX = "model.safetensors.index.json"
SHA256 = re.compile("[0-9a-f]{64}")
FILES = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "README.md", "LICENSE*"]
"""What is fetched: data and words, nothing that runs."""


def folder(start: str) -> Path:
    """Where the weights lie that `start` names. Raises Refused, or Fault where a hub is silent."""
    return fetched(start) if start.startswith(HUB) else Path(start)


def fetched(start: str) -> Path:
    """A model's files in the cache of this machine, fetched where they are not there."""
    name, _, revision = start.removeprefix(HUB).partition("@")
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise Refused(f"start '{start}' names no model; say hf:ORG/NAME@REVISION")
    if not revision:
        raise Refused(
            f"start '{start}' names no revision, and what a hub calls main changes; say "
            f"hf:{name}@REVISION with a commit or a tag"
        )
    from huggingface_hub import errors, snapshot_download

    try:
        snapshot = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=FILES,
                endpoint=os.environ.get("HF_ENDPOINT"),
                local_files_only=os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "yes"),
            )
        )
    except errors.RevisionNotFoundError:
        raise Refused(f"start '{start}': the model has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise Refused(
            f"start '{start}': the hub has no model {name}, or HF_TOKEN may not see it"
        ) from None
    except errors.HFValidationError as error:
        raise Refused(f"start '{start}': {' '.join(str(error).split())}") from None
    except errors.LocalEntryNotFoundError:
        raise Refused(
            f"start '{start}' is not in this machine's cache, and the hub is unreachable or "
            "HF_HUB_OFFLINE is set; fetch it where there is a network, or name a folder"
        ) from None
    except Exception as error:  # what a proxy answers in a hub's place fails in many ways
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise Fault(f"start '{start}' could not be fetched: {reason}", heals=True) from None
    check_bytes(snapshot, start)
    return snapshot


def check_bytes(snapshot: Path, start: str) -> None:
    """Raise Refused where a large file in the cache is not the one that the hub named.

    Such a file is called by its sha256 there, which the hub's client does not look at again.
    """
    for path in sorted(snapshot.rglob("*")):
        blob = path.resolve()
        if SHA256.fullmatch(blob.name) and blob.is_file():
            status = blob.stat()
            if _sha256(blob, status.st_size, status.st_mtime_ns) != blob.name:
                raise Refused(
                    f"start '{start}': {path.name} has not the sha256 that the hub names; remove "
                    f"{blob} to have it fetched again"
                )


@lru_cache(256)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    return sha256(path)


def unfit_index(folder: Path) -> str:
    """Why the shards that a folder's index names cannot be read; "" where they can."""
    path = folder / INDEX
    if not path.is_file() or (folder / "model.safetensors").is_file():
        return ""
    try:
        shards = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{INDEX} is no index of shards; write the folder again with save_pretrained"
    for shard in sorted(map(str, shards)):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            return f"{INDEX} names {shard!r}, no safetensors of this folder; correct it"
        if not (folder / shard).is_file():
            return f"{INDEX} names {shard}, which is not there; bring all shards"
    return ""
