"""Which version of each application answers: the registry's alias, swapped in one assignment."""

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from tasks.serve import nudge
from tasks.serve.loaded_model import LoadedModel, checked, load
from tasks.serve.measure import REFUSED, REGISTRY, SWAPS, VERSION
from tidemill.engines import config
from tidemill.engines.config.schema import Serve
from tidemill.engines.mlflow import client
from tidemill.engines.mlflow.live import CHALLENGER, CHAMPION, Live, all_live
from tidemill.runtime.errors import Fault, Refused

log = logging.getLogger(__name__)
LOOK_S = 0.1  # how often the nudge is looked at
# A version that was refused is tried again after this long: its package may have been repaired.
AGAIN_S = 60.0


class Standing(TypedDict):
    """What answers for an application, and what ought to."""

    version: str | None
    since: str | None
    wanted: NotRequired[str]  # the version that is live, where it does not answer yet
    refused: NotRequired[str]  # and why
    difference: NotRequired[str]  # between ledger and alias


class RegistryHealth(TypedDict):
    answers: bool
    silent_s: NotRequired[float]
    meanwhile: NotRequired[str]


class Health(TypedDict):
    """What GET /health answers."""

    status: str  # ok or degraded
    registry: RegistryHealth
    applications: dict[str, Standing]


@dataclass(frozen=True)
class Pair:
    """Who answers an application; replaced as a whole."""

    champion: LoadedModel | None = None
    previous: LoadedModel | None = None
    challenger: LoadedModel | None = None

    def models(self) -> list[LoadedModel]:
        return [model for model in (self.champion, self.previous, self.challenger) if model]


@dataclass
class ServedApplication:
    """An application that is served: its limits, what answers, and what was refused."""

    name: str
    settings: Serve
    pair: Pair = field(default_factory=Pair)
    wanted: str | None = None  # the champion by the registry
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)  # version: when, and why


class VersionFollower(threading.Thread):
    """Asks the registry and loads what it names; what answers meanwhile stays as it is."""

    def __init__(
        self,
        names: tuple[str, ...],
        poll_s: float,
        bring: Callable[[str, str], LoadedModel] | None = None,
    ) -> None:
        super().__init__(daemon=True, name="version-follower")
        self.names, self.poll_s = names, poll_s
        self.bring = bring or brought
        self.served: dict[str, ServedApplication] = {}
        self.unread: dict[str, str] = {}  # applications whose configuration cannot be used, and why
        self.stopping = threading.Event()
        self.asked = False  # the registry answered once
        self.looked = False  # and what it named then was tried
        self.differences: dict[str, str] = {}  # between ledger and alias, by application
        # Since when the registry is unreachable, and why.
        self.unreachable: tuple[float, str] | None = None

    def run(self) -> None:
        while not self.stopping.is_set():
            mark = self._mark()
            try:
                self.look()
            except Exception as error:
                # A fault of one round must not end the rounds: what is loaded answers on.
                log.error("looking for champions failed: %s: %s", type(error).__name__, error)
            self._wait(mark)

    def _mark(self) -> int:
        try:
            return nudge().stat().st_mtime_ns
        except OSError:
            return 0

    def _wait(self, mark: int) -> None:
        until = time.monotonic() + self.poll_s * random.uniform(0.8, 1.2)
        while time.monotonic() < until and not self.stopping.wait(LOOK_S):
            if self._mark() != mark:
                return

    def look(self) -> None:
        """Ask the registry once, and bring in what it names."""
        try:
            aliases = self.aliases()
        except Fault as fault:
            self.lost(str(fault))
            return
        if self.unreachable:
            log.info("the registry is reachable again")
        self.unreachable, self.asked = None, True
        REGISTRY.set(1)
        wanted = self.names or tuple(
            name for name, found in aliases.items() if found.get("champion")
        )
        self.unread = self.read(
            tuple(
                name
                for name in wanted
                if name not in self.served and name in config.files("recipe")
            )
        )
        todo = [
            served
            for served in self.served.values()
            if self._due(served, aliases.get(served.name, {}))
        ]
        if todo:
            with ThreadPoolExecutor(min(4, len(todo))) as pool:
                list(
                    pool.map(lambda served: self.follow(served, aliases.get(served.name, {})), todo)
                )
        self.looked = True

    def lost(self, why: str) -> None:
        """The registry is unreachable; why is logged once, and once more where it changes."""
        since, before = self.unreachable or (time.time(), "")
        if why != before:
            log.warning("the registry is unreachable: %s; what is loaded answers on", why)
        self.unreachable = (since, why)
        REGISTRY.set(0)

    def first_look_done(self) -> bool:
        return self.looked or self.unreachable is not None

    def works(self) -> bool:
        """Whether its thread lives; one that was not started is no fault."""
        return self.ident is None or self.is_alive()

    def read(self, names: tuple[str, ...]) -> dict[str, str]:
        """Begin to hold these applications; why, of those where it cannot be done."""
        unread = {}
        for name in names:
            try:
                self.served[name] = ServedApplication(name, config.recipe(name).serve)
            except Exception as error:
                unread[name] = worded(error)
                if self.unread.get(name) != unread[name]:
                    log.error("%s is not served: %s", name, unread[name])
        return unread

    def aliases(self) -> dict[str, dict[str, str]]:
        registry = client.quick()
        if registry is None and not self.asked and client.unborn():
            return {}
        if registry is None:
            raise Fault(
                f"the registry at {client.uri()} is neither an MLflow server nor its SQLite file "
                "of this version; set MLFLOW_TRACKING_URI to a server's address"
            )
        applications = all_live()
        self._tell_differences({name: live.difference for name, live in applications.items()})
        return {name: _aliases(live) for name, live in applications.items()}

    def _tell_differences(self, differences: dict[str, str]) -> None:
        """Log, once, that ledger and alias differ; the ledger's version goes on answering."""
        for name, words in differences.items():
            if words and self.differences.get(name) != words:
                log.error("%s; the ledger's version goes on answering", words)
        self.differences = {name: words for name, words in differences.items() if words}

    def _due(self, served: ServedApplication, aliases: dict[str, str]) -> bool:
        served.wanted = aliases.get("champion")
        champion = served.pair.champion.version if served.pair.champion else None
        challenger = served.pair.challenger.version if served.pair.challenger else None
        return champion != served.wanted or (
            served.settings.challenger != "off" and challenger != aliases.get("challenger")
        )

    def follow(self, served: ServedApplication, aliases: dict[str, str]) -> None:
        """Bring one application to what the aliases say.

        What cannot be served leaves the old version answering.
        """
        pair = served.pair
        number = aliases.get("champion")
        if (
            number
            and (not pair.champion or pair.champion.version != number)
            and (model := self.model(served, number))
        ):
            served.pair = pair = Pair(
                champion=model, previous=pair.champion, challenger=pair.challenger
            )
            served.refused.pop(number, None)
            SWAPS.labels(served.name).inc()
            VERSION.labels(served.name).set(int(number))
            log.info(
                "%s version %s answers now (digest %s), before it was %s",
                served.name,
                number,
                model.digest[:12],
                pair.previous.version if pair.previous else "none",
            )
        if served.settings.challenger == "off":
            return
        number = aliases.get("challenger")
        if number is None or number == aliases.get("champion"):
            served.pair = Pair(champion=pair.champion, previous=pair.previous)
        elif (not pair.challenger or pair.challenger.version != number) and (
            model := self.model(served, number)
        ):
            served.pair = Pair(champion=pair.champion, previous=pair.previous, challenger=model)
            log.info(
                "%s version %s is the challenger now, %s",
                served.name,
                number,
                served.settings.challenger,
            )

    def model(self, served: ServedApplication, number: str) -> LoadedModel | None:
        """A version's model: one that is resident, else loaded; None where it may not answer."""
        for model in served.pair.models():
            if model.version == number:
                return model
        when, _ = served.refused.get(number, (0.0, ""))
        if time.monotonic() - when < AGAIN_S and number in served.refused:
            return None
        try:
            return self.bring(served.name, number)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            if number not in served.refused:
                REFUSED.labels(served.name).inc()
                log.error("%s version %s is not served: %s", served.name, number, worded(error))
            served.refused[number] = (time.monotonic(), worded(error))
            return None

    def ready(self) -> bool:
        """Whether everything that is to be served is.

        That is the named applications, or all that had a champion when first asked and could
        answer.
        """
        if not self.looked:
            return False
        if self.names:
            return all(
                name in self.served and self.served[name].pair.champion for name in self.names
            )
        return True

    def health(self) -> Health:
        """What a person on call asks: is the registry there, what answers, what was refused."""
        applications: dict[str, Standing] = {
            name: {"version": None, "since": None, "refused": public(words)}
            for name, words in self.unread.items()
        }
        for name, served in sorted(self.served.items()):
            champion = served.pair.champion
            standing: Standing = {
                "version": champion.version if champion else None,
                "since": champion.loaded if champion else None,
            }
            if served.wanted and (not champion or champion.version != served.wanted):
                standing["wanted"] = served.wanted
                standing["refused"] = public(
                    served.refused.get(served.wanted, (0.0, "being loaded"))[1]
                )
            if name in self.differences:
                standing["difference"] = public(self.differences[name])
            applications[name] = standing
        well = not self.unreachable and all(
            "wanted" not in one and "difference" not in one and one["version"]
            for one in applications.values()
        )
        registry: RegistryHealth = {"answers": not self.unreachable}
        if self.unreachable:
            registry["silent_s"] = round(time.time() - self.unreachable[0], 1)
            registry["meanwhile"] = "the versions below answer on"
        return {
            "status": "ok" if well else "degraded",
            "registry": registry,
            "applications": applications,
        }


def _aliases(live: Live) -> dict[str, str]:
    """What is to answer: the ledger's version, and the challenger."""
    wanted = {CHAMPION: live.version, CHALLENGER: live.challenger}
    return {alias: number for alias, number in wanted.items() if number}


def brought(name: str, number: str) -> LoadedModel:
    found = checked(name, number)
    return load(name, number, found.package, found.digest)


def worded(error: BaseException) -> str:
    return (
        str(error)
        if isinstance(error, Fault | Refused | OSError)
        else f"{type(error).__name__}: {error}"
    )


def public(words: str) -> str:
    """A reason without any path of this machine."""
    return " ".join("(a path)" if "/" in word and len(word) > 3 else word for word in words.split())
