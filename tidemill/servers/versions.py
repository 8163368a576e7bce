"""Whether the servers that are named answer in the version this environment speaks.

It is asked before anything is spent.
"""

import importlib.metadata
import json
import os
import urllib.error
import urllib.request

from tidemill.runtime.errors import Refused

WAIT_S = 5
LOGINS = {
    "prefect": ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"),
    "mlflow": ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
}


def check() -> None:
    """Ask Prefect's and MLflow's server, where one is named.

    One line with the remedy where one does not fit.
    """
    if prefect := os.environ.get("PREFECT_API_URL"):
        fits("prefect", "PREFECT_API_URL", prefect.rstrip("/"), "/admin/version")
    mlflow = os.environ.get("MLFLOW_TRACKING_URI", "")
    if mlflow.startswith("http"):
        fits("mlflow", "MLFLOW_TRACKING_URI", mlflow.rstrip("/"), "/version")


def fits(package: str, variable: str, base: str, path: str) -> None:
    try:
        with urllib.request.urlopen(base + path, timeout=WAIT_S) as answer:
            told = answer.read(200).decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # it answers, and asks who we are
            if not any(os.environ.get(name) for name in LOGINS[package]):
                raise Refused(
                    f"{package}'s server at {base} asks for a login; set {LOGINS[package][0]}"
                ) from error
            return
        raise Refused(
            f"{base} answers {error.code} to {path}: is it {package}'s server? correct {variable}"
        ) from error
    except (OSError, ValueError) as error:
        raise Refused(
            f"{package}'s server at {base} does not answer; start it (tidemill up), or unset "
            f"{variable}"
        ) from error
    try:
        theirs = str(json.loads(told))
    except ValueError:
        theirs = told
    ours = importlib.metadata.version(package)
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise Refused(
            f"{package}'s server at {base} is version {theirs[:20]}, this environment has {ours}; "
            "bring both to one version"
        )
