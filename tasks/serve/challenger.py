"""What is done beside an answer: notes for drift, and the challenger's part of the questions."""

import asyncio
import time

from pydantic import BaseModel
from starlette.requests import Request

from tasks.serve.admission import Admission
from tasks.serve.batch import Abandoned, Answers, Broken, Late, Overloaded
from tasks.serve.loaded_model import LoadedModel, share_of
from tasks.serve.sampling import Sampler
from tasks.serve.shadow import ShadowReport
from tasks.serve.version_follower import ServedApplication


class Challengers:
    """The challengers of all applications, and the samples of what was asked."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.reports: dict[str, ShadowReport] = {}
        self.samplers: dict[str, Sampler] = {}
        self.background: set[asyncio.Task[None]] = set()

    def canary(
        self, served: ServedApplication, request: Request, body: bytes
    ) -> LoadedModel | None:
        """The challenger, for a stable share of the clients that send a key, else of bodies."""
        challenger = served.pair.challenger
        if served.settings.challenger != "canary" or challenger is None:
            return None
        key = request.headers.get("tidemill-key")
        place = share_of(key.encode("latin-1", "replace") if key else body)
        return challenger if place < served.settings.share else None

    def afterwards(
        self,
        served: ServedApplication,
        body: bytes,
        questions: list[BaseModel],
        given: Answers,
        ms: float,
    ) -> None:
        """Sample the questions, and ask the challenger in the shadow; `ms`: the answer's time."""
        if served.settings.sample:
            if served.name not in self.samplers:
                self.samplers[served.name] = Sampler(served.name, served.settings)
            self.samplers[served.name].sample(given.model, questions, given.answers)
        champion, challenger = served.pair.champion, served.pair.challenger
        if served.settings.challenger == "off" or champion is None or challenger is None:
            return
        if given.model not in (champion, challenger):
            return
        report = self.report(served, champion, challenger)
        report.latency("challenger" if given.model is challenger else "champion", ms)
        shadowed = served.settings.challenger == "shadow" and given.model is champion
        if shadowed and share_of(body) < served.settings.share:
            task = asyncio.create_task(self.shadow(served, report, challenger, questions, given))
            self.background.add(task)
            task.add_done_callback(self.background.discard)

    def report(
        self, served: ServedApplication, champion: LoadedModel, challenger: LoadedModel
    ) -> ShadowReport:
        """The report of these two versions; that of two others is sent before."""
        report = self.reports.get(served.name)
        if report and report.pair == (champion.version, challenger.version):
            return report
        if report:
            report.send()
        kind = served.settings.challenger
        report = ShadowReport(served.name, kind, champion.version, challenger.version)
        self.reports[served.name] = report
        return report

    async def shadow(
        self,
        served: ServedApplication,
        report: ShadowReport,
        challenger: LoadedModel,
        questions: list[BaseModel],
        given: Answers,
    ) -> None:
        began = time.perf_counter()
        try:
            batcher = self.admission.batcher(served, challenger=True)
            theirs = await batcher.ask(questions, challenger)
        except (Overloaded, Late, Abandoned):
            return  # the shadow never costs the champion anything: it is left out where it is late
        except Broken:
            report.failed += 1
            return
        report.latency("challenger", (time.perf_counter() - began) * 1e3)
        pairs = zip(given.answers, theirs.answers, strict=True)
        report.compare([challenger.recipe.same(one, two) for one, two in pairs])

    def close(self) -> None:
        for sampler in self.samplers.values():
            sampler.flush()
        for report in self.reports.values():
            report.send(wait=True)
