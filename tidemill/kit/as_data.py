"""How transformers opens other people's folders; apart, so that labels depend on no network."""

from __future__ import annotations

AS_DATA = {
    "local_files_only": True,
    "use_safetensors": True,
    "output_loading_info": True,
    "trust_remote_code": False,  # without it, a person at a terminal is asked
}
"""None of a folder's code is run, and nothing is fetched."""
