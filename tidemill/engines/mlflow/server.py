"""MLflow's server over a database that is made whole first (database.py). Run as `python -m tidemill.engines.mlflow.server OPTION ...`."""

import sys

from tidemill.engines.mlflow import database
from tidemill.runtime import paths

if __name__ == "__main__":
    address = sys.argv[sys.argv.index("--backend-store-uri") + 1]
    paths.settle()
    database.create(address)
    from mlflow.cli import cli

    cli(["server", *sys.argv[1:]])
