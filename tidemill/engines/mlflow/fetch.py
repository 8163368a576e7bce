"""python -m tidemill.engines.mlflow.fetch APPLICATION VERSION: bring a version's package here.

It is checked, and where it lies is printed.
"""

from tidemill.engines.mlflow import packages, registry
from tidemill.runtime import process
from tidemill.runtime.errors import Refused
from tidemill.runtime.receipt import Receipt

USAGE = "python -m tidemill.engines.mlflow.fetch APPLICATION VERSION"


class Package(Receipt):
    package: str
    digest: str


def main(arguments: list[str]) -> Package:
    if len(arguments) != 2:
        raise Refused(USAGE)
    folder = packages.fetch(*arguments)
    version = registry.version(*arguments)
    assert version is not None
    return Package(package=str(folder), digest=version.digest)


if __name__ == "__main__":
    process.main(
        main,
        f"{USAGE}: bring a version's package here and check it.",
    )
