"""Texts that are written side by side: a new one joins between two steps of the others.

One thread for each application takes steps of its network for as long as there are texts to write.
Requests take turns where there is no room for all: whoever has the fewest texts under way is next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial

from tasks.serve.batch import Abandoned, Broken, Late, Overloaded
from tasks.serve.loaded_model import LoadedModel
from tasks.serve.measure import FIRST_TOKEN, WRITING, WRITTEN
from tidemill.engines.config.schema import Serve
from tidemill.families.generator import Decoder, Draft, Finish, Generates

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WritingProgress:
    """How far a text has come."""

    text: str
    tokens: int
    finish: Finish | None
    begun: bool = True  # whether its prompt was read


@dataclass(eq=False)
class Job:
    """One request's texts, all by one model."""

    model: LoadedModel
    generator: Generates
    drafts: list[Draft]
    abandoned: Callable[[], bool]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    progress: list[WritingProgress] = field(default_factory=list)
    error: Exception | None = None
    begun: int = 0  # of its drafts
    came: float = field(default_factory=time.perf_counter)

    @property
    def under_way(self) -> int:
        return sum(draft.finish is None for draft in self.drafts[: self.begun])

    @property
    def over(self) -> bool:
        return self.error is not None or all(draft.finish for draft in self.drafts)

    def publish(self) -> None:
        """Let the event loop see how far its texts have come."""
        progress = [
            WritingProgress(draft.text, len(draft.written), draft.finish, number < self.begun)
            for number, draft in enumerate(self.drafts)
        ]
        self.tell(progress, None)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.tell(self.progress, error)

    def tell(self, progress: list[WritingProgress], error: Exception | None) -> None:
        def heard() -> None:
            self.progress, self.error = progress, error
            self.moved.set()

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(heard)


class TextWriter:
    """One application's texts, and the thread that writes them."""

    def __init__(self, application: str, settings: Serve) -> None:
        self.application, self.settings = application, settings
        self.jobs: list[Job] = []  # not over; in the order in which they came
        self.decoders: dict[Generates, Decoder] = {}
        self.changed = threading.Condition()
        self.stopping = False
        self.thread: threading.Thread | None = None
        self.rows, self.sizes = WRITING.labels(application), WRITTEN.labels(application)
        self.first = FIRST_TOKEN.labels(application)

    async def write(
        self, model: LoadedModel, drafts: list[Draft], abandoned: Callable[[], bool]
    ) -> AsyncGenerator[list[WritingProgress]]:
        """How far each text has come, until all have ended.

        Raises Overloaded where too many wait, Late where none was begun within the deadline,
        Abandoned where the client went, and Broken where the model failed.
        """
        job = self._enter(model, drafts, abandoned)
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                await job.moved.wait()
            while True:
                job.moved.clear()
                if job.error:
                    raise job.error
                seen = job.progress  # the thread goes on while the reader is at work
                yield seen
                if all(one.finish for one in seen):
                    return
                await job.moved.wait()
        except TimeoutError:
            raise Late from None
        finally:
            self._leave(job)

    def _enter(self, model: LoadedModel, drafts: list[Draft], abandoned: Callable[[], bool]) -> Job:
        generator = model.session
        assert isinstance(generator, Generates)
        job = Job(model, generator, drafts, abandoned)
        with self.changed:
            there = sum(len(one.drafts) for one in self.jobs)
            if there and there + len(drafts) > self.settings.queue:
                raise Overloaded(1)
            self.jobs.append(job)
            if self.thread is None or not self.thread.is_alive():
                name = f"write-{self.application}"
                self.thread = threading.Thread(target=self._run, daemon=True, name=name)
                self.thread.start()
            self.changed.notify()
        return job

    def _leave(self, job: Job) -> None:
        """Nobody reads this job any more: the thread drops what is left of it."""
        job.abandoned = lambda: True
        with self.changed:
            self.changed.notify()

    def close(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify()

    # In the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopping or self.jobs)
                if self.stopping:
                    return
                jobs = list(self.jobs)
            self._round(jobs)
            over = {id(job) for job in jobs if job.over}
            with self.changed:
                self.jobs = [job for job in self.jobs if id(job) not in over]
            self.decoders = {
                model: decoder for model, decoder in self.decoders.items() if decoder.batches
            }
            self.rows.set(sum(len(decoder.drafts) for decoder in self.decoders.values()))

    def _round(self, jobs: list[Job]) -> None:
        """Drop what nobody waits for, begin what there is room for, and take one step."""
        for job in jobs:
            if job.abandoned() and not job.over:
                self._drop(job)
                job.fail(Abandoned())
        self._admit([job for job in jobs if not job.over])
        self._step([job for job in jobs if not job.over])

    def _admit(self, jobs: list[Job]) -> None:
        """Begin texts while there is room, of whoever has the fewest under way."""
        room = self.settings.batch - sum(job.under_way for job in jobs)
        chosen: dict[Job, list[Draft]] = {}
        while room > 0:
            waiting = [job for job in jobs if job.begun < len(job.drafts)]
            if not waiting:
                break
            job = min(waiting, key=lambda one: one.under_way)
            chosen.setdefault(job, []).append(job.drafts[job.begun])
            job.begun += 1
            room -= 1
        by_model: dict[Generates, list[Job]] = {}
        for job in chosen:
            by_model.setdefault(job.generator, []).append(job)
        for model, joining in by_model.items():
            decoder = self.decoders.setdefault(model, Decoder(model))
            drafts = [draft for job in joining for draft in chosen[job]]
            self._try(decoder, joining, partial(decoder.join, drafts))
            for job in joining:
                if job.begun == len(chosen[job]):
                    self.first.observe(time.perf_counter() - job.came)

    def _step(self, jobs: list[Job]) -> None:
        """One more token for each text under way."""
        for model, decoder in self.decoders.items():
            if decoder.batches:
                self.sizes.observe(len(decoder.drafts))
                writing = [job for job in jobs if job.generator is model and job.under_way]
                self._try(decoder, writing, decoder.step)

    def _try(self, decoder: Decoder, jobs: list[Job], act: Callable[[], None]) -> None:
        """What the decoder does for these jobs is published; where it fails, so do they."""
        try:
            act()
        except BaseException as error:  # a panic of a library in Rust is no Exception
            for job in jobs:
                self._break(job, error)
            return
        for job in jobs:
            unsound = next((draft.unsound for draft in job.drafts if draft.unsound), None)
            if unsound:
                self._break(job, unsound)
            else:
                job.publish()

    def _drop(self, job: Job) -> None:
        decoder = self.decoders.get(job.generator)
        if decoder:
            for draft in job.drafts:
                decoder.leave(draft)

    def _break(self, job: Job, error: BaseException) -> None:
        # Never the question itself: it may be private.
        log.error(
            "%s version %s could not write an answer: %s: %s",
            self.application,
            job.model.version,
            type(error).__name__,
            " ".join(str(error).split())[:300],
        )
        self._drop(job)
        job.fail(Broken())
