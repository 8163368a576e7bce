"""Questions that wait for a model.

Which are taken, when those are told that are not, and what a model's fault costs the others.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from tasks.serve import batch
from tasks.serve.batch import Abandoned, Batcher, Broken, Late, Overloaded
from tidemill.engines.config.schema import Serve


class Asked(BaseModel):
    text: str = "a"


class Model:
    """A model that takes `seconds` for each question by a clock of its own.

    So nothing hangs on how busy the machine is; while `held` it does not answer.
    """

    version = "1"
    recipe = SimpleNamespace(Output=Asked)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0
        self.names: list[str] = []
        self.begun, self.free = threading.Event(), threading.Event()
        self.free.set()
        monkeypatch.setattr(batch, "time", self)

    def monotonic(self) -> float:
        return self.now

    def answers(self, questions: list) -> list:
        self.names.append(threading.current_thread().name)
        self.begun.set()
        assert self.free.wait(30)
        self.now += self.seconds * len(questions)
        return questions

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self.begun.clear()
        self.free.clear()
        yield
        self.free.set()


@pytest.mark.parametrize(("patience_ms", "taken"), [(0, 4), (100, 10), (10_000, 30)])
def test_a_question_is_turned_away_where_the_next_batch_is_full_and_it_would_wait_too_long(
    monkeypatch: pytest.MonkeyPatch, patience_ms: float, taken: int
) -> None:
    model = Model(monkeypatch, 0.01)

    async def run() -> list[int | None]:
        batcher = Batcher(
            "a test", Serve(batch=4, queue=31, patience_ms=patience_ms), lambda: model
        )

        async def one() -> int | None:
            try:
                await batcher.ask([Asked()])
            except Overloaded as error:
                return error.after_s
            return None

        assert await one() is None and batcher.rate == pytest.approx(100)
        with model.held():
            first = asyncio.create_task(one())
            assert await asyncio.to_thread(model.begun.wait, 30)
            more = [asyncio.create_task(one()) for _ in range(50)]
            await asyncio.sleep(0)
        found = await asyncio.gather(first, *more)
        batcher.close()
        return found

    found = asyncio.run(run())
    assert (found.count(None) - 1, found.count(1)) == (taken, 50 - taken)


def test_when_to_come_again_is_told_by_how_long_the_queue_lasts() -> None:
    batcher = Batcher(
        "a test", Serve(batch=4, queue=100, patience_ms=0), lambda: pytest.fail("nothing is asked")
    )
    batcher.room(before=99)  # nothing is known yet of how fast the model is
    batcher.rate, batcher.asked, batcher.queued = 10.0, 4, 3
    batcher.room()
    for queued, before, after_s in ((4, 0, 1), (3, 1, 1), (40, 0, 5), (90, 6, 10)):
        batcher.queued = queued
        with pytest.raises(Overloaded) as told:
            batcher.room(before=before)
        assert told.value.after_s == after_s
    batcher.close()


@pytest.mark.parametrize(("seconds", "by"), [(0.0, "MainThread"), (0.002, "model-a test_0")])
def test_a_question_that_comes_alone_is_answered_by_the_loop_where_the_model_is_quick(
    monkeypatch: pytest.MonkeyPatch, seconds: float, by: str
) -> None:
    model = Model(monkeypatch, seconds)

    async def run() -> None:
        batcher = Batcher("a test", Serve(), lambda: model)
        for _ in range(100):
            await batcher.ask([Asked()])
        first = len(model.names)
        await asyncio.gather(
            *(batcher.ask([Asked()]) for _ in range(3))
        )  # several are answered beside the loop, which reads what comes meanwhile
        assert model.names[first - 1] == by and set(model.names[first:]) == {"model-a test_0"}
        batcher.close()

    asyncio.run(run())


class Panic(BaseException):
    """What a library in Rust raises where it cannot go on."""


def test_a_question_that_waits_is_late_at_its_deadline_and_one_the_model_has_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(monkeypatch, 0.01)

    async def run() -> None:
        batcher = Batcher("a test", Serve(batch=4, deadline_s=0.1), lambda: model)
        with model.held():
            first = asyncio.create_task(batcher.ask([Asked()]))
            assert await asyncio.to_thread(model.begun.wait, 20)
            async with asyncio.timeout(20):
                with pytest.raises(Late):
                    await batcher.ask([Asked(), Asked()])
            assert (batcher.queued, batcher.asked, len(batcher.waiting)) == (0, 1, 0)
        assert len((await first).answers) == 1
        batcher.close()

    asyncio.run(run())


def test_whatever_a_model_raises_its_question_is_told_so_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(monkeypatch, 0.01)
    there = [model]

    def answers(questions: list, known: Callable = model.answers) -> list:
        if any(question.text == "panic" for question in questions):
            raise Panic
        return known(questions)

    monkeypatch.setattr(model, "answers", answers)

    async def run() -> None:
        batcher = Batcher("a test", Serve(), lambda: there[0])
        async with asyncio.timeout(20):
            for words in (["panic"], ["a", "panic", "b"]):
                found = await asyncio.gather(
                    *(batcher.ask([Asked(text=word)]) for word in words), return_exceptions=True
                )
                assert [type(one) is Broken for one in found] == [word == "panic" for word in words]
            there.clear()  # no champion
            with pytest.raises(Broken):
                await batcher.ask([Asked()])
            there.append(model)
            await batcher.ask([Asked()])
        assert (batcher.queued, batcher.asked) == (0, 0)
        batcher.close()

    asyncio.run(run())


def test_a_list_takes_turns_with_others_in_pieces_that_grow_while_they_are_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, pieces = Model(monkeypatch, 0.001), []
    known = model.answers
    monkeypatch.setattr(
        model, "answers", lambda asked: (pieces.append(len(asked)), known(asked))[1]
    )

    async def run() -> None:
        batcher = Batcher("a test", Serve(batch=8), lambda: model)
        given = await batcher.ask([Asked(text=str(number)) for number in range(30)])
        assert [answer.text for answer in given.answers] == [str(number) for number in range(30)]
        assert pieces == [1, 2, 4, 8, 8, 7] and len(given.bodies) == 30
        assert (batcher.queued, batcher.asked, batcher.listed) == (0, 0, 0)
        batcher.close()

    asyncio.run(run())


def test_a_list_of_slow_questions_keeps_nobody_waiting_longer_than_one_of_them_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(monkeypatch, 0.3)  # as 512 tokens take

    async def run() -> None:
        batcher = Batcher("a test", Serve(batch=16, patience_ms=0), lambda: model)
        with model.held():
            long = asyncio.create_task(batcher.ask([Asked()] * 100))
            assert await asyncio.to_thread(model.begun.wait, 30)
            one = asyncio.create_task(batcher.ask([Asked()]))  # it is not turned away
            await asyncio.sleep(0)
        await one
        assert not long.done() and model.now <= 0.91
        assert len((await long).answers) == 100
        batcher.close()

    asyncio.run(run())


def test_what_nobody_waits_for_is_dropped_before_its_next_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(monkeypatch, 0.3)

    async def run() -> None:
        batcher = Batcher("a test", Serve(), lambda: model)
        with pytest.raises(Abandoned):
            await batcher.ask([Asked()] * 100, abandoned=lambda: model.now > 1)
        assert model.now == pytest.approx(1.2)
        await asyncio.sleep(0)
        assert batcher.length._value.get() == 0
        assert (batcher.queued, batcher.asked, batcher.listed) == (0, 0, 0)
        batcher.close()

    asyncio.run(run())


def test_lists_leave_room_for_single_questions_and_have_a_bound_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(monkeypatch, 0.01)

    async def run() -> None:
        batcher = Batcher("a test", Serve(queue=150, batch=8), lambda: model)
        with model.held():
            lists = [asyncio.create_task(batcher.ask([Asked()] * 100)) for _ in range(2)]
            assert await asyncio.to_thread(model.begun.wait, 30)
            assert isinstance(
                (await asyncio.gather(lists[1], return_exceptions=True))[0], Overloaded
            )
            single = asyncio.create_task(batcher.ask([Asked()]))
            await asyncio.sleep(0)
        assert len((await single).answers) == 1 and len((await lists[0]).answers) == 100
        batcher.close()

    asyncio.run(run())


class Number(BaseModel):
    value: float | None = None
    few: list[float] = []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Number(value=float("nan")), "value is not a finite number"),
        (Number(few=[1.0, float("inf")]), "few.1 is not a finite number"),
        (Number.model_construct(value="a", few=[]), "value breaks its schema"),
    ],
)
def test_an_answer_that_breaks_its_schema_is_a_fault_that_names_the_field(
    monkeypatch: pytest.MonkeyPatch, answer: Number, words: str
) -> None:
    model = Model(monkeypatch, 0.01)
    model.recipe = SimpleNamespace(Output=Number)
    monkeypatch.setattr(model, "answers", lambda questions: [answer] * len(questions))

    async def run() -> None:
        batcher = Batcher("a test", Serve(), lambda: model)
        with pytest.raises(Broken, match=words):
            await batcher.ask([Asked()])
        batcher.close()

    asyncio.run(run())
