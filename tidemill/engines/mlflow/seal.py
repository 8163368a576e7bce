"""The seal of a version: a signature over its number, package, verdict and comparison.

A tag can be changed on MLflow's page by anybody who sees it; a seal can be made by the key alone.
"""

from tidemill.engines.mlflow import tags
from tidemill.engines.mlflow.version import Version
from tidemill.package import signing
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import canonical


def made(version: Version) -> str:
    """The seal of a version as its tags stand now."""
    return signing.signature(_content(version))


def check(version: Version) -> None:
    """Raise `Refused` where the version's verdict is not the one that was sealed."""
    seal = version.tags.get(tags.SEAL)
    if seal is None:
        raise Refused(
            f"{version.name} has the verdict {version.verdict or 'none'} without a seal; "
            f"run again, and it is judged and sealed anew"
        )
    if not signing.valid(_content(version), seal):
        raise Refused(
            f"{version.name} has the verdict {version.verdict or 'none'}, which is not the one "
            f"that was sealed: a tag was changed; run again, and it is judged anew"
        )


def _content(version: Version) -> str:
    return canonical(
        {
            "application": version.application,
            "version": version.number,
            "digest": version.digest,
            "verdict": version.verdict,
            "beside": version.beside,
        }
    )
