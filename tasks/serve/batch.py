"""Questions that come at the same time are asked of the model together.

A request's questions take turns with those of others: of a list, each batch takes a piece, so that
a long list holds nobody up for longer than one piece takes. What cannot be answered in time is
turned away, and what nobody waits for any more is dropped before its next piece.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import BaseModel

from tasks.serve.loaded_model import LoadedModel, UnsoundAnswer, as_json
from tasks.serve.measure import BATCH, QUEUE
from tidemill.engines.config.schema import Serve

log = logging.getLogger(__name__)


# A question that comes alone and takes less is answered by the loop itself: a thread costs
# 0.15 ms more of the processor.
LOOP_S = 0.0005
# A piece of a list that takes longer is followed by a smaller one. Others wait about so long for
# their turn.
TURN_S = 0.1


class Overloaded(Exception):
    """The queue is full; `after_s` seconds from now there is probably room."""

    def __init__(self, after_s: int) -> None:
        self.after_s = after_s


class Late(Exception):
    """The deadline passed before the question's turn came."""


class Abandoned(Exception):
    """The client hung up before all its questions were answered."""


class Broken(Exception):
    """The model could not answer a question that its schema allows; the log says why."""


@dataclass(frozen=True)
class Answers:
    """One request's answers, all by one version, and each as JSON."""

    model: LoadedModel
    answers: list[BaseModel]
    bodies: list[bytes]


def always_waiting() -> bool:
    return False


@dataclass(eq=False)
class Waiting:
    """A request of one question or of several, and how far it has come."""

    questions: list[BaseModel]
    future: asyncio.Future[Answers]
    model: LoadedModel | None  # None: whichever is the champion when its turn comes
    abandoned: Callable[[], bool] = always_waiting
    piece: int = 1  # questions it may have in a batch; a list's grows while its pieces are quick
    answers: list[BaseModel] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.questions) - len(self.answers)

    @property
    def turn(self) -> int:
        """How many of its questions the next batch takes."""
        return min(self.piece, self.left)

    def next(self) -> list[BaseModel]:
        at = len(self.answers)
        return self.questions[at : at + self.turn]


class Batcher:
    """One application's queue, and the thread that asks its model."""

    def __init__(
        self, application: str, settings: Serve, champion: Callable[[], LoadedModel]
    ) -> None:
        self.application, self.settings, self.champion = application, settings, champion
        self.waiting: deque[Waiting] = deque()
        self.queued = 0  # questions that come before those of a new request, by the turns
        self.listed = 0  # questions of lists, whose turn is only a part of them
        self.asked = 0  # questions that the model was asked and has not answered
        self.came = asyncio.Event()
        self.crowded = False  # several came together lately: it pays to wait for more
        self.alone_s = 1.0  # what a question that came alone took, lately
        self.rate = 0.0  # questions answered in a second while there were some, lately
        self.length, self.sizes = QUEUE.labels(application), BATCH.labels(application)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{application}")
        self.task: asyncio.Task[None] | None = None

    def room(self, count: int = 1, before: int = 0) -> None:
        """Raise Overloaded where `count` more questions would be too many or would wait too long.

        `before` more are on their way. The batch after the one that is being answered takes what
        comes; who comes after it is taken where all before it are expected to be answered soon. So
        a queue lasts about as long as a question takes anyway, however fast the model is.
        """
        there = self.asked + self.queued + before
        if not there:
            return
        soon = (
            self.queued + before < self.settings.batch
            or not self.rate
            or there <= self.rate * self.settings.patience_ms / 1000
        )
        # Of a list only its turn counts for others, so lists have a bound of their own.
        crowded = there + 1 > self.settings.queue if count == 1 else self.crowded_by(count, there)
        if not soon or crowded:
            raise Overloaded(max(1, math.ceil(there / self.rate)) if self.rate else 1)

    def crowded_by(self, count: int, there: int) -> bool:
        return max(there, self.listed) + count > self.settings.queue

    async def ask(
        self,
        questions: list[BaseModel],
        model: LoadedModel | None = None,
        abandoned: Callable[[], bool] = always_waiting,
    ) -> Answers:
        """Answers by one model for all of them. Raises Overloaded, Late, Abandoned or Broken."""
        self.room(len(questions))
        loop = asyncio.get_running_loop()
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._work())
        request = Waiting(questions, loop.create_future(), model, abandoned)
        if len(questions) > 1:
            self.listed += len(questions)
        self._enter(request)
        self.came.set()
        # By a timer: while the model is at work, or hangs, nobody's turn comes.
        timer = loop.call_later(self.settings.deadline_s, self._late, request)
        try:
            return await request.future
        finally:
            timer.cancel()
            if len(questions) > 1:
                self.listed -= len(questions)

    def _enter(self, request: Waiting) -> None:
        """To the end of the line: for the first time, or with what is left of a list."""
        self.waiting.append(request)
        self.queued += request.turn
        self.length.set(self.queued + self.asked)

    def _late(self, request: Waiting) -> None:
        """End a request that still waits for its first turn; one that was begun is answered."""
        if request.answers or request not in self.waiting or request.future.done():
            return
        self.waiting.remove(request)
        self.queued -= request.turn
        self.length.set(self.queued + self.asked)
        request.future.set_exception(Late())

    async def _work(self) -> None:
        began = 0.0
        while True:
            while not self.waiting:
                self.came.clear()
                await self.came.wait()
                began = time.monotonic()
            if self.crowded and self.queued < self.settings.batch and self.settings.wait_ms:
                await asyncio.sleep(self.settings.wait_ms / 1000)
            part = self._taken()
            if not part:  # all that waited had gone
                self.length.set(self.queued)
                continue
            self.crowded = len(part) > 1
            count = self.asked = sum(request.turn for request in part)
            await self._answer(part, count)
            # From the end of the batch before, where questions waited then: what the loop does in
            # between is waited for as well.
            began, since = time.monotonic(), began
            self._measured(count, began - since)
            self._again(part, began - since)

    async def _answer(self, part: list[Waiting], count: int) -> None:
        """Ask the model one batch; each request gets its answers, or Broken."""
        model = part[0].model
        try:
            model = model or self.champion()
            questions = [question for request in part for question in request.next()]
            if count == 1 and self.alone_s < LOOP_S and not self.waiting:
                answers, bodies = answered(model, questions)
            else:
                answers, bodies = await self._in_thread(model, questions)
            self._give(part, model, answers, bodies)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            for request in part:
                if model and len(part) > 1:
                    await self._alone(model, request)  # so it is found whose question it was
                else:
                    self._fail(request, model, error)

    async def _in_thread(
        self, model: LoadedModel, questions: list[BaseModel]
    ) -> tuple[list[BaseModel], list[bytes]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, answered, model, questions)

    async def _alone(self, model: LoadedModel, request: Waiting) -> None:
        try:
            answers, bodies = await self._in_thread(model, request.next())
            self._give([request], model, answers, bodies)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._fail(request, model, error)

    def _measured(self, count: int, seconds: float) -> None:
        self.asked = 0
        self.length.set(self.queued)
        self.sizes.observe(count)
        if count == 1:
            self.alone_s = 0.8 * self.alone_s + 0.2 * seconds
        rate = count / max(1e-6, seconds)
        self.rate = rate if not self.rate else 0.8 * self.rate + 0.2 * rate

    def _again(self, part: list[Waiting], seconds: float) -> None:
        """Let what is left of lists wait for its next turn, of a size that takes about TURN_S."""
        for request in part:
            if request.future.done() or not request.left:
                continue
            if seconds < TURN_S / 2:
                request.piece = min(2 * request.piece, self.settings.batch)
            elif seconds > TURN_S:
                request.piece = max(1, request.piece // 2)
            self._enter(request)

    def _taken(self) -> list[Waiting]:
        """The next requests that one model answers, as many questions as a batch holds."""
        part: list[Waiting] = []
        count = 0
        while self.waiting:
            request = self.waiting[0]
            if request.future.done():  # its handler was cancelled
                self._next()
                continue
            if request.abandoned():
                self._next().future.set_exception(Abandoned())
                continue
            if part and (
                count + request.turn > self.settings.batch or request.model is not part[0].model
            ):
                break
            part.append(self._next())
            count += request.turn
        return part

    def _next(self) -> Waiting:
        request = self.waiting.popleft()
        self.queued -= request.turn
        return request

    def _give(
        self,
        part: list[Waiting],
        model: LoadedModel,
        answers: list[BaseModel],
        bodies: list[bytes],
    ) -> None:
        at = 0
        for request in part:
            stop = at + request.turn
            request.model = model  # a list is answered by one version, whatever is promoted
            request.answers += answers[at:stop]
            request.bodies += bodies[at:stop]
            at = stop
            if not request.left and not request.future.done():
                request.future.set_result(Answers(model, request.answers, request.bodies))

    def _fail(self, request: Waiting, model: LoadedModel | None, error: BaseException) -> None:
        # Never the question itself: it may be private.
        log.error(
            "%s version %s could not answer a question it accepts: %s: %s",
            self.application,
            model.version if model else "none",
            type(error).__name__,
            " ".join(str(error).split())[:300],
        )
        if not request.future.done():
            reason = str(error) if isinstance(error, UnsoundAnswer) else ""
            request.future.set_exception(Broken(reason))

    def close(self) -> None:
        if self.task:
            self.task.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)


def answered(model: LoadedModel, questions: list[BaseModel]) -> tuple[list[BaseModel], list[bytes]]:
    """The answers, and each as JSON; in the model's thread."""
    answers = model.answers(questions)
    return answers, [as_json(answer, model.recipe.Output) for answer in answers]
