"""Folders of other people's weights: how they are opened; what labels need loads no network."""

from __future__ import annotations

from tidemill.runtime import paths

HUB = "hf:"
MODEL = ("config.json", "size.json")  # of which a folder with a model has one
AS_DATA = {
    "local_files_only": True,
    "use_safetensors": True,
    "output_loading_info": True,
    "trust_remote_code": False,  # without it, a person at a terminal is asked
}
"""None of a folder's code is run, and nothing is fetched."""


def no_model(start: str) -> str:
    """Why a folder here is none with a model, by a look at its files; "" where it may be one."""
    if start.startswith(HUB):
        return ""  # what a hub has is seen when it is fetched
    folder = paths.root() / start
    if not folder.is_dir():
        return f"start '{start}' is no folder; name one that save_pretrained wrote"
    if not any((folder / name).is_file() for name in MODEL):
        return f"start '{start}' has no config.json; name a folder that save_pretrained wrote"
    return ""
