"""python -m tidemill.engines.mlflow.server OPTION ...: MLflow's server, its database made first."""

import sys

from tidemill.engines.mlflow import database
from tidemill.runtime import paths

if __name__ == "__main__":
    address = sys.argv[sys.argv.index("--backend-store-uri") + 1]
    paths.settle()
    database.create(address)
    from mlflow.cli import cli

    cli(["server", *sys.argv[1:]])
