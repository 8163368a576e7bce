"""Weights to begin from: a folder here, or a model of a hub at one revision.

`hf:org/name@REVISION` is fetched by huggingface_hub, into its own cache: what is there is not
fetched again, and HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tidemill.runtime.errors import Fault, Refused

HUB = "hf:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,90}/[A-Za-z0-9][\w.-]{0,90}")
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
        return Path(
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
    except (errors.HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Fault(f"start '{start}' could not be fetched: {reason}", heals=True) from None
