"""MLflow's own fields of a run: what its pages show beside the name."""

import getpass
import os


def fields(application: str, name: str) -> dict[str, str]:
    """Who started a run, with what, and what it is; as tags that MLflow's pages know."""
    return {
        "mlflow.user": os.environ.get("TIDEMILL_USER") or _user(),
        "mlflow.source.type": "JOB",
        "mlflow.source.name": f"tidemill run {application}",
        "mlflow.note.content": f"{name}, by Tidemill: its gates are under `tidemill card`, "
        f"its data under `tidemill trace {application}`.",
    }


def _user() -> str:
    """The login's name; its number where the machine has no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
