"""Which test rows were asked before, by which candidates: a record of each, beside the ledger.

A record is a tag of the application's experiment, signed with the key that signs the ledger. It
stays when runs are cleaned away. It holds a sample of the rows, those with the smallest hashes, so
that today's rows can be compared with those of any earlier day: where half of them are new, an
earlier candidate counts for half.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np
from pydantic import BaseModel, ValidationError

from tidemill.engines.mlflow import chain, client, ledger, runs
from tidemill.package import signing
from tidemill.records.receipts import Reuse
from tidemill.runtime.files import canonical

# MLflow's page shows every tag of an experiment but those that begin so.
PREFIX = "mlflow.tidemill.tried."
SAMPLE = 128  # rows of a record: a share of them is off by .04 at most, one standard error
FEWEST = 16  # of today's rows within reach of a sample; of fewer nothing is told
HASHES = 2**32
KEPT = 400  # records of candidates that were tried before today's champion went live


class Tried(BaseModel, frozen=True, extra="forbid"):
    """A candidate that was asked test rows."""

    application: str
    candidate: str  # the digest of its package
    at: str
    period: int  # how many versions had been live by then
    below: int  # of the rows' hashes, all that are under this number are in the sample
    hashes: str  # hexadecimal, eight digits each

    def share(self, today: np.ndarray) -> float:
        """The share of today's rows (n,), given as hashes, that it was asked; 1 if unknown."""
        within = today[today < self.below]
        if len(within) < FEWEST and self.below < HASHES:
            return 1.0
        if not len(within):
            return 0.0
        return float(np.isin(within, self.numbers()).mean())

    def joined(self, earlier: "Tried") -> "Tried":
        """The same candidate asked twice: it knows the rows of both times."""
        below = min(self.below, earlier.below)
        both = np.union1d(self.numbers(), earlier.numbers())
        below, hashes = _sample(both[both < below], below)
        return self.model_copy(update={"below": below, "hashes": hashes})

    def numbers(self) -> np.ndarray:
        """The hashes in the sample."""
        places = range(0, len(self.hashes), 8)
        return np.array([int(self.hashes[at : at + 8], 16) for at in places], dtype=np.int64)


def note(application: str, candidate: str, rows: Iterable[str]) -> Reuse:
    """Record that a candidate was asked these test rows, and count who was asked them before.

    The same candidate asked again is one try.
    """
    where = runs.experiment(application)
    today = hashed(rows)
    tags = client.connect().get_experiment(where).tags
    period = live_before(application, tags)
    tag = _tag(candidate)
    tried = _sampled(application, candidate, period, today)
    earlier = _records(application, tags).get(tag)
    if earlier and earlier.period == period:
        tried = tried.joined(earlier)
    client.connect().set_experiment_tag(where, tag, _signed(tried))
    _forget(where, tags, period)
    # Another machine may have noted its own candidate meanwhile.
    tags = client.connect().get_experiment(where).tags
    others = {name: text for name, text in tags.items() if name != tag}
    return counted(application, others, period, today)


def known(application: str, rows: Iterable[str]) -> Reuse:
    """How the next candidate would find these rows; nothing is recorded."""
    if client.unborn():
        return Reuse()
    there = client.connect().get_experiment_by_name(application)
    tags = there.tags if there else {}
    return counted(application, tags, live_before(application, tags), hashed(rows))


def hashed(rows: Iterable[str]) -> np.ndarray:
    """Test rows' ids as numbers under 2^32, sorted."""
    digests = (hashlib.blake2b(str(row).encode(), digest_size=4).digest() for row in rows)
    return np.sort(np.frombuffer(b"".join(digests), dtype=">u4").astype(np.int64))


def live_before(application: str, tags: Mapping[str, str]) -> int:
    """How many versions were live so far: a new one begins a period of its own.

    A version that goes live again, by a rollback, begins none.
    """
    try:
        entries = ledger.ledger(application)
    except chain.BrokenChain:
        records = _records(application, tags).values()
        return max((tried.period for tried in records if tried), default=0)
    return len({entry.version for entry in entries if entry.carried_out})


def counted(application: str, tags: Mapping[str, str], period: int, today: np.ndarray) -> Reuse:
    """The try that comes after the recorded ones.

    A record that was changed by hand counts whole, in every period.
    """
    tries, asked = 1.0, 1
    for tried in _records(application, tags).values():
        share = tried.share(today) if tried else 1.0
        asked += share > 0
        if tried is None or tried.period >= period:
            tries += share
    return Reuse(tries=round(tries, 3), asked=asked)


def _records(application: str, tags: Mapping[str, str]) -> dict[str, Tried | None]:
    """The records by tag; None for one that is not as it was signed."""
    return {
        name: _opened(application, name, text)
        for name, text in sorted(tags.items())
        if name.startswith(PREFIX)
    }


def _opened(application: str, name: str, text: str) -> Tried | None:
    """A record as it was signed, under the name it was signed for; else None."""
    try:
        body = json.loads(text)
        tried = Tried.model_validate(body["content"])
        whole = signing.valid(canonical(body["content"]), body["signature"])
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
    mine = (tried.application, _tag(tried.candidate)) == (application, name)
    return tried if whole and mine else None


def _tag(candidate: str) -> str:
    return PREFIX + candidate[:16]


def _sampled(application: str, candidate: str, period: int, today: np.ndarray) -> Tried:
    below, hashes = _sample(np.unique(today), HASHES)
    return Tried(
        application=application,
        candidate=candidate,
        at=ledger.now(),
        period=period,
        below=below,
        hashes=hashes,
    )


def _sample(hashes: np.ndarray, below: int) -> tuple[int, str]:
    """`below` and `hashes` of a record. `hashes` (n,): sorted, all that there are under `below`."""
    sample = hashes[:SAMPLE]
    if len(hashes) >= SAMPLE:
        below = int(sample[-1]) + 1
    return below, "".join(f"{value:08x}" for value in sample)


def _signed(tried: Tried) -> str:
    body = tried.model_dump()
    return canonical({"content": body, "signature": signing.signature(canonical(body))})


def _forget(where: str, tags: Mapping[str, str], period: int) -> None:
    """Remove the oldest records of earlier periods, where there are too many."""
    opened = {name: _opened_period(text) for name, text in tags.items() if name.startswith(PREFIX)}
    earlier = sorted((at, name) for name, (before, at) in opened.items() if before < period)
    for _, name in earlier[: max(0, len(earlier) - KEPT)]:
        client.connect().delete_experiment_tag(where, name)


def _opened_period(text: str) -> tuple[int, str]:
    """A record's period and time, of one that can be read."""
    try:
        content = json.loads(text)["content"]
        return int(content["period"]), str(content["at"])
    except (ValueError, KeyError, TypeError):
        return HASHES, ""
