"""MLflow's server over a database that is made whole first (database.py). Run as `python -m tasks.tracking.server OPTION ...`."""

import sys

from tasks import places
from tasks.tracking import database

if __name__ == "__main__":
    address = sys.argv[sys.argv.index("--backend-store-uri") + 1]
    places.settle()
    database.create(address)
    from mlflow.cli import cli

    cli(["server", *sys.argv[1:]])
