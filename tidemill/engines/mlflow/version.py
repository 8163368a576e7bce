"""What the registry holds: models with their aliases and tags, and versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.engines.mlflow import tags as names
from tidemill.runtime.errors import Refused


@dataclass(frozen=True)
class Model:
    """A registered model: alias to version, and its tags."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A version of an application, as it was registered."""

    application: str
    number: str
    run_id: str
    source: str
    created_ms: int
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"version {self.number} of {self.application}"

    @property
    def digest(self) -> str:
        """The digest of its package. Raises `Refused` where no run of ours registered it."""
        digest = self.tags.get(names.DIGEST)
        if not digest:
            raise Refused(
                f"{self.name} has no tag {names.DIGEST}: it was not registered by tidemill run, "
                f"or the tag was removed; name another version (tidemill history "
                f"{self.application})"
            )
        return digest

    @property
    def verdict(self) -> str:
        """What the gates said, PROMOTE, HOLD or REJECT; empty where nothing is noted."""
        return self.tags.get(names.VERDICT, "")

    @property
    def beside(self) -> str | None:
        """The champion it was judged beside, or `tags.NONE`; None where that is not noted."""
        return self.tags.get(names.BESIDE)

    @property
    def key(self) -> str:
        """The key of the run that made it; empty where it is not noted."""
        return self.tags.get(names.KEY, "")

    @property
    def snapshot(self) -> str:
        """The digest of the rows it was made from; empty where it is not noted."""
        return self.tags.get(names.SNAPSHOT, "")
