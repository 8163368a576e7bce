"""Questions that come at the same time are asked of the model together; those that cannot be answered in time are turned away."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import BaseModel

from tasks.serve.loaded_model import Slot
from tasks.serve.measure import BATCH, QUEUE
from tidemill.engines.config.schema import Serve

log = logging.getLogger(__name__)


LOOP_S = 0.0005  # a question that comes alone and takes less is answered by the loop itself: a thread costs 0.15 ms more of the processor


class Full(Exception):
    """The queue is full; `after_s` seconds from now there is probably room."""

    def __init__(self, after_s: int) -> None:
        self.after_s = after_s


class Late(Exception):
    """The deadline passed before the question's turn came."""


class Broken(Exception):
    """The model could not answer a question that its schema allows; the log says why."""


@dataclass(frozen=True)
class Answered:
    slot: Slot
    answers: list[BaseModel]
    bodies: list[bytes]


@dataclass(eq=False)
class Asked:
    questions: list[BaseModel]
    future: asyncio.Future[Answered]
    slot: Slot | None  # None: whichever is the champion when its turn comes


class Batcher:
    """One application's queue, and the thread that asks its model."""

    def __init__(self, application: str, settings: Serve, champion: Callable[[], Slot]) -> None:
        self.application, self.settings, self.champion = application, settings, champion
        self.waiting: deque[Asked] = deque()
        self.queued = 0  # questions that wait
        self.asked = 0  # questions that the model was asked and has not answered
        self.came = asyncio.Event()
        self.crowded = False  # several came together lately: it pays to wait for more
        self.alone_s = 1.0  # what a question that came alone took, lately
        self.rate = 0.0  # questions answered in a second while there were some, lately
        self.length, self.sizes = QUEUE.labels(application), BATCH.labels(application)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{application}")
        self.task: asyncio.Task[None] | None = None

    def room(self, count: int = 1, before: int = 0) -> None:
        """Raise Full where `count` more questions would be too many or would wait too long, with `before` more on their way.

        The batch after the one that is being answered takes what comes; who comes after it is taken where all before it are
        expected to be answered soon. So a queue lasts about as long as a question takes anyway, however fast the model is.
        """
        there = self.asked + self.queued + before
        if not there:
            return
        soon = (
            self.queued + before < self.settings.batch
            or not self.rate
            or there <= self.rate * self.settings.patience_ms / 1000
        )
        if not soon or there + count > self.settings.queue:
            raise Full(max(1, math.ceil(there / self.rate)) if self.rate else 1)

    async def ask(self, questions: list[BaseModel], slot: Slot | None = None) -> Answered:
        """Answers by one slot for all of them. Raises Full, Late or Broken."""
        self.room(len(questions))
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._work())
        asked = Asked(questions, asyncio.get_running_loop().create_future(), slot)
        self.waiting.append(asked)
        self.queued += len(questions)
        self.length.set(self.queued + self.asked)
        self.came.set()
        # By a timer: while the model is at work, or hangs, nobody's turn comes.
        timer = asyncio.get_running_loop().call_later(self.settings.deadline_s, self._late, asked)
        try:
            return await asked.future
        finally:
            timer.cancel()

    def _late(self, asked: Asked) -> None:
        """Tell a question that still waits; one that the model was asked goes on waiting for its answer."""
        if asked in self.waiting and not asked.future.done():
            self.waiting.remove(asked)
            self.queued -= len(asked.questions)
            self.length.set(self.queued + self.asked)
            asked.future.set_exception(Late())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        began = 0.0
        while True:
            while not self.waiting:
                self.came.clear()
                await self.came.wait()
                began = time.monotonic()
            if self.crowded and self.queued < self.settings.batch and self.settings.wait_ms:
                await asyncio.sleep(self.settings.wait_ms / 1000)
            part = self._taken()
            if not part:
                continue
            self.crowded = len(part) > 1
            slot = part[0].slot
            count = self.asked = sum(len(asked.questions) for asked in part)
            try:
                slot = slot or self.champion()
                questions = [question for asked in part for question in asked.questions]
                if count == 1 and self.alone_s < LOOP_S and not self.waiting:
                    found = answered(slot, questions)
                else:
                    found = await loop.run_in_executor(self.thread, answered, slot, questions)
                self._give(part, slot, *found)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # a panic of a library in Rust is no Exception
                for asked in part:
                    if (
                        slot and len(part) > 1
                    ):  # whose question it was is found by asking each alone
                        await self._alone(slot, asked)
                    else:
                        self._fail(asked, slot, error)
            self.asked = 0
            self.length.set(self.queued)
            self.sizes.observe(count)
            # From the end of the batch before, where questions waited then: what the loop does in between is waited for as well.
            began, since = time.monotonic(), began
            if count == 1:
                self.alone_s = 0.8 * self.alone_s + 0.2 * (began - since)
            rate = count / max(1e-6, began - since)
            self.rate = rate if not self.rate else 0.8 * self.rate + 0.2 * rate

    async def _alone(self, slot: Slot, asked: Asked) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self.thread, answered, slot, asked.questions
            )
            self._give([asked], slot, *found)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._fail(asked, slot, error)

    def _taken(self) -> list[Asked]:
        """The next questions that one slot answers, as many as a batch holds."""
        part: list[Asked] = []
        count = 0
        while self.waiting:
            asked = self.waiting[0]
            if asked.future.done():  # its client has gone
                self._next()
                continue
            if part and (
                count + len(asked.questions) > self.settings.batch or asked.slot is not part[0].slot
            ):
                break
            part.append(self._next())
            count += len(asked.questions)
        return part

    def _next(self) -> Asked:
        asked = self.waiting.popleft()
        self.queued -= len(asked.questions)
        return asked

    def _give(
        self, part: list[Asked], slot: Slot, answers: list[BaseModel], bodies: list[bytes]
    ) -> None:
        at = 0
        for asked in part:
            stop = at + len(asked.questions)
            if not asked.future.done():
                asked.future.set_result(Answered(slot, answers[at:stop], bodies[at:stop]))
            at = stop

    def _fail(self, asked: Asked, slot: Slot | None, error: BaseException) -> None:
        # Never the question itself: it may be private.
        log.error(
            "%s version %s could not answer a question it accepts: %s: %s",
            self.application,
            slot.version if slot else "none",
            type(error).__name__,
            " ".join(str(error).split())[:300],
        )
        if not asked.future.done():
            asked.future.set_exception(Broken())

    def close(self) -> None:
        if self.task:
            self.task.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)


def answered(slot: Slot, questions: list[BaseModel]) -> tuple[list[BaseModel], list[bytes]]:
    """The answers, and each as JSON; in the model's thread."""
    found = slot.answers(questions)
    return found, [answer.__pydantic_serializer__.to_json(answer) for answer in found]
