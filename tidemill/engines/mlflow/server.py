"""python -m tidemill.engines.mlflow.server OPTION ...: MLflow's server, its database made first.

MLflow's launcher stays beside its worker, with all of MLflow in its memory, to do nothing but wait
(250 MB of 500). Here it becomes the worker: the launcher's last call, which starts uvicorn with the
options and variables it has worked out, is an exec(2).
"""

import os
import sys
from typing import NoReturn

from tidemill.engines.mlflow import database
from tidemill.runtime import paths


def become(command: list[str], extra_env: dict[str, str], **_: object) -> NoReturn:
    """MLflow's `_exec_cmd`, without a process in between."""
    os.execvpe(command[0], command, {**os.environ, **extra_env})


def main() -> None:
    address = sys.argv[sys.argv.index("--backend-store-uri") + 1]
    paths.settle()
    database.create(address)
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = become  # type: ignore[assignment]
    cli(["server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
