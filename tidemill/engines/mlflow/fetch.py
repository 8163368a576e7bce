"""python -m tidemill.engines.mlflow.fetch APPLICATION VERSION: bring a version's package here and check it; prints where it lies."""

from tidemill.engines.mlflow import packages, registry
from tidemill.runtime import process
from tidemill.runtime.errors import Refused
from tidemill.runtime.receipt import Receipt


class Package(Receipt):
    package: str
    digest: str


def main(arguments: list[str]) -> Package:
    if len(arguments) != 2:
        raise Refused("python -m tidemill.engines.mlflow.fetch APPLICATION VERSION")
    folder = packages.fetch(*arguments)
    found = registry.version(*arguments)
    assert found is not None
    return Package(package=str(folder), digest=found["tags"]["tidemill.digest"])


if __name__ == "__main__":
    process.main(
        main,
        "python -m tidemill.engines.mlflow.fetch APPLICATION VERSION: bring a version's package here and check it.",
    )
