"""Which version of each application answers: the registry's alias, asked again and again, and swapped in one assignment."""

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tasks.serve import nudge
from tasks.serve.loaded_model import Slot, checked, load
from tasks.serve.measure import REFUSED, REGISTRY, SWAPS, VERSION
from tidemill.engines import config
from tidemill.engines.config.schema import Serve
from tidemill.engines.mlflow import client
from tidemill.engines.mlflow.live import CHALLENGER, CHAMPION, Live, all_live
from tidemill.runtime.errors import Fault, Refused

log = logging.getLogger(__name__)
LOOK_S = 0.1  # how often the nudge is looked at
AGAIN_S = 60.0  # a version that was refused is tried again after this long: its package may have been repaired


@dataclass(frozen=True)
class Pair:
    """Who answers an application; replaced as a whole."""

    champion: Slot | None = None
    previous: Slot | None = None
    challenger: Slot | None = None

    def slots(self) -> list[Slot]:
        return [slot for slot in (self.champion, self.previous, self.challenger) if slot]


@dataclass
class Held:
    """An application that is served: its limits, who answers, and what was refused."""

    name: str
    settings: Serve
    pair: Pair = field(default_factory=Pair)
    wanted: str | None = None  # the champion by the registry
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)  # version: when, and why


class Keeper(threading.Thread):
    """Asks the registry and loads what it names; what answers meanwhile stays as it is."""

    def __init__(
        self, names: tuple[str, ...], poll_s: float, bring: Callable[[str, str], Slot] | None = None
    ) -> None:
        super().__init__(daemon=True, name="keeper")
        self.names, self.poll_s = names, poll_s
        self.bring = bring or brought
        self.held: dict[str, Held] = {}
        self.unread: dict[str, str] = {}  # applications whose configuration cannot be used, and why
        self.stopping = threading.Event()
        self.asked = False  # the registry answered once
        self.looked = False  # and what it named then was tried
        self.differences: dict[str, str] = {}  # between ledger and alias, by application
        self.away: tuple[float, str] | None = (
            None  # since when the registry is silent, and what it last said
        )

    def run(self) -> None:
        while not self.stopping.is_set():
            mark = self._mark()
            try:
                self.look()
            except Exception as error:
                # A fault of one round must not end the rounds: what answers goes on answering.
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
            self.away = (self.away[0] if self.away else time.time(), str(fault))
            REGISTRY.set(0)
            return
        if self.away:
            log.info("the registry answers again")
        self.away, self.asked = None, True
        REGISTRY.set(1)
        wanted = self.names or tuple(
            name for name, found in aliases.items() if found.get("champion")
        )
        self.unread = self.read(
            tuple(
                name for name in wanted if name not in self.held and name in config.files("recipe")
            )
        )
        todo = [held for held in self.held.values() if self._due(held, aliases.get(held.name, {}))]
        if todo:
            with ThreadPoolExecutor(min(4, len(todo))) as pool:
                list(pool.map(lambda held: self.follow(held, aliases.get(held.name, {})), todo))
        self.looked = True

    def read(self, names: tuple[str, ...]) -> dict[str, str]:
        """Begin to hold these applications; why, of those where it cannot be done."""
        unread = {}
        for name in names:
            try:
                self.held[name] = Held(name, config.recipe(name).serve)
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
                f"the registry at {client.uri()} is neither an MLflow server nor its SQLite file of this version; set MLFLOW_TRACKING_URI to a server's address"
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

    def _due(self, held: Held, aliases: dict[str, str]) -> bool:
        held.wanted = aliases.get("champion")
        champion = held.pair.champion.version if held.pair.champion else None
        challenger = held.pair.challenger.version if held.pair.challenger else None
        return champion != held.wanted or (
            held.settings.challenger != "off" and challenger != aliases.get("challenger")
        )

    def follow(self, held: Held, aliases: dict[str, str]) -> None:
        """Bring one application's slots to what the aliases say; what cannot be served leaves the old one answering."""
        pair = held.pair
        number = aliases.get("champion")
        if (
            number
            and (not pair.champion or pair.champion.version != number)
            and (slot := self.slot(held, number))
        ):
            held.pair = pair = Pair(
                champion=slot, previous=pair.champion, challenger=pair.challenger
            )
            held.refused.pop(number, None)
            SWAPS.labels(held.name).inc()
            VERSION.labels(held.name).set(int(number))
            log.info(
                "%s version %s answers now (digest %s), before it was %s",
                held.name,
                number,
                slot.digest[:12],
                pair.previous.version if pair.previous else "none",
            )
        if held.settings.challenger == "off":
            return
        number = aliases.get("challenger")
        if number is None or number == aliases.get("champion"):
            held.pair = Pair(champion=pair.champion, previous=pair.previous)
        elif (not pair.challenger or pair.challenger.version != number) and (
            slot := self.slot(held, number)
        ):
            held.pair = Pair(champion=pair.champion, previous=pair.previous, challenger=slot)
            log.info(
                "%s version %s is the challenger now, %s",
                held.name,
                number,
                held.settings.challenger,
            )

    def slot(self, held: Held, number: str) -> Slot | None:
        """The slot of a version: one that is resident, else loaded; None where it may not answer."""
        for slot in held.pair.slots():
            if slot.version == number:
                return slot
        when, _ = held.refused.get(number, (0.0, ""))
        if time.monotonic() - when < AGAIN_S and number in held.refused:
            return None
        try:
            return self.bring(held.name, number)
        except (
            BaseException
        ) as error:  # whatever a library raises: a panic of one in Rust is no Exception
            if number not in held.refused:
                REFUSED.labels(held.name).inc()
                log.error("%s version %s is not served: %s", held.name, number, worded(error))
            held.refused[number] = (time.monotonic(), worded(error))
            return None

    def ready(self) -> bool:
        """Whether everything that is to be served is: named applications, or all that had a champion when first asked and could answer."""
        if not self.looked:
            return False
        if self.names:
            return all(name in self.held and self.held[name].pair.champion for name in self.names)
        return True

    def health(self) -> dict[str, Any]:
        """What a person on call asks: is the registry there, what answers, what was refused."""
        applications: dict[str, dict[str, Any]] = {
            name: {"version": None, "since": None, "refused": public(words)}
            for name, words in self.unread.items()
        }
        for name, held in sorted(self.held.items()):
            champion = held.pair.champion
            told: dict[str, Any] = {
                "version": champion.version if champion else None,
                "since": champion.loaded if champion else None,
            }
            if held.wanted and (not champion or champion.version != held.wanted):
                told["wanted"] = held.wanted
                told["refused"] = public(held.refused.get(held.wanted, (0.0, "being loaded"))[1])
            if name in self.differences:
                told["difference"] = public(self.differences[name])
            applications[name] = told
        well = not self.away and all(
            "wanted" not in told and "difference" not in told and told["version"]
            for told in applications.values()
        )
        registry: dict[str, Any] = {"answers": not self.away}
        if self.away:
            registry.update(
                silent_s=round(time.time() - self.away[0], 1),
                meanwhile="the versions below go on answering",
            )
        return {
            "status": "ok" if well else "degraded",
            "registry": registry,
            "applications": applications,
        }


def _aliases(live: Live) -> dict[str, str]:
    """What is to answer: the ledger's version, and the challenger."""
    wanted = {CHAMPION: live.version, CHALLENGER: live.challenger}
    return {alias: number for alias, number in wanted.items() if number}


def brought(name: str, number: str) -> Slot:
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
