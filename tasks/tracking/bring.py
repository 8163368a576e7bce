"""python -m tasks.tracking.bring APPLICATION VERSION: bring a version's package here and check it; prints where it lies."""

from tasks import process, tracking
from tasks.errors import Refused
from tasks.receipts import Receipt


class Package(Receipt):
    package: str
    digest: str


def main(arguments: list[str]) -> Package:
    if len(arguments) != 2:
        raise Refused("python -m tasks.tracking.bring APPLICATION VERSION")
    folder = tracking.package(*arguments)
    found = tracking.version(*arguments)
    assert found is not None
    return Package(package=str(folder), digest=found["tags"]["tidemill.digest"])


if __name__ == "__main__":
    process.main(
        main,
        "python -m tasks.tracking.bring APPLICATION VERSION: bring a version's package here and check it.",
    )
