"""Waiting for an engine: its stalls, and what is said before what it owes. Virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ringtrue.streaming.budget.lines import ReplayedLine
from ringtrue.streaming.patience import Pacer, Patient, StalledError
from ringtrue.streaming.ports import SpeechChunk, WordMark
from virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def chunk(word: str, samples: int = 100, end: int = 0) -> SpeechChunk:
    return SpeechChunk(bytes(2 * samples), (WordMark(word, end or samples),), phrase_end=True)


class Engine:
    """Waits and gives chunks as scripted."""

    def __init__(self, *steps: float | SpeechChunk) -> None:
        self.steps = steps
        self.closed = False

    async def chunks(self) -> AsyncIterator[SpeechChunk]:
        try:
            for step in self.steps:
                if isinstance(step, SpeechChunk):
                    yield step
                else:
                    await asyncio.sleep(step)
        finally:
            self.closed = True


async def heard(patient: Patient) -> list[tuple[str, int]]:
    frames = patient.frames()
    try:
        return [(word.text, word.end) async for one in frames for word in one.words]
    finally:
        await frames.aclose()


async def test_an_engine_that_works_is_passed_on() -> None:
    engine = Engine(0.9, chunk("one"), 0.9, chunk("two", end=200), 0.9)
    patient = Patient(engine.chunks(), lambda: True, 1.0)
    assert await heard(patient) == [("one", 100), ("two", 200)]
    assert engine.closed
    assert not patient.interject(ReplayedLine((chunk("late"),)))


@pytest.mark.parametrize("before", [[], [chunk("one")]], ids=["at first", "later"])
async def test_one_that_makes_nothing_of_what_it_owes_has_failed(before: list[SpeechChunk]) -> None:
    engine = Engine(*before, 60.0)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(StalledError, match="nothing for 1 s"):
        await heard(Patient(engine.chunks(), lambda: True, 1.0))
    assert asyncio.get_running_loop().time() - begun == pytest.approx(1.0)
    assert engine.closed


@pytest.mark.parametrize("before", [[], [chunk("one")]], ids=["at first", "later"])
async def test_one_that_is_at_work_is_waited_for_longer(before: list[SpeechChunk]) -> None:
    late = chunk("late", end=200)
    engine = Engine(*before, 3.5, late)
    patient = Patient(engine.chunks(), lambda: True, 1.0, works=lambda: True)
    assert (await heard(patient))[-1] == ("late", 200)
    engine = Engine(*before, 60.0)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(StalledError):
        await heard(Patient(engine.chunks(), lambda: True, 1.0, works=lambda: True))
    assert asyncio.get_running_loop().time() - begun == pytest.approx(4.0)


@pytest.mark.parametrize("before", [[], [chunk("one")]], ids=["at first", "later"])
async def test_one_that_no_longer_works_is_given_up(before: list[SpeechChunk]) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    working = Patient(
        Engine(*before, 60.0).chunks(), lambda: True, 1.0, works=lambda: loop.time() - begun < 2.1
    )
    with pytest.raises(StalledError):
        await heard(working)
    assert loop.time() - begun == pytest.approx(2.25)


@pytest.mark.parametrize("before", [[], [chunk("one")]], ids=["at first", "later"])
async def test_one_that_owes_nothing_may_wait_until_it_does(before: list[SpeechChunk]) -> None:
    engine = Engine(*before, 60.0)
    owed = False
    patient = Patient(engine.chunks(), lambda: owed, 1.0)
    begun = asyncio.get_running_loop().time()
    hearing = asyncio.ensure_future(heard(patient))
    await asyncio.sleep(5.0)
    owed = True
    patient.fed()
    with pytest.raises(StalledError):
        await hearing
    assert asyncio.get_running_loop().time() - begun == pytest.approx(6.0)


@pytest.mark.parametrize("before", [[], [chunk("one")]], ids=["at first", "later"])
async def test_a_process_that_was_held_up_itself_blames_no_engine(
    before: list[SpeechChunk],
) -> None:
    """What it made meanwhile is read first, though every timer is due."""
    engine = Engine(*before, 1.5, *[0.0] * 10, chunk("two", end=200))
    hearing = asyncio.ensure_future(heard(Patient(engine.chunks(), lambda: True, 2.0)))
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.skip(30.0)
    assert [word for word, _ in await hearing][-1] == "two"


async def test_a_line_goes_in_front_and_words_keep_their_places() -> None:
    engine = Engine(0.5, chunk("answer", end=60))
    told: list[int] = []

    async def joined(lines: int) -> None:
        told.append(lines)

    patient = Patient(engine.chunks(), lambda: True, 1.0, joined)
    hearing = asyncio.ensure_future(heard(patient))
    await asyncio.sleep(0.2)
    assert patient.interject(ReplayedLine((chunk("moment", 300),)))
    await asyncio.sleep(0.1)
    assert told == [], "nothing follows it yet"
    assert await hearing == [("moment", 300), ("answer", 360)]
    assert told == [1]


async def test_a_line_can_be_said_while_an_engine_stalls() -> None:
    engine = Engine(60.0)
    patient = Patient(engine.chunks(), lambda: True, 1.0)
    words: list[str] = []

    async def hear() -> None:
        async for one in patient.frames():
            words.extend(word.text for word in one.words)

    hearing = asyncio.ensure_future(hear())
    await asyncio.sleep(0.2)
    assert patient.interject(ReplayedLine((chunk("moment"),)))
    await asyncio.sleep(0.01)
    assert words == ["moment"]
    with pytest.raises(StalledError):
        await hearing


async def test_after_its_first_samples_nothing_goes_in_front() -> None:
    patient = Patient(Engine(chunk("one"), 0.5, chunk("two")).chunks(), lambda: True, 1.0)
    hearing = asyncio.ensure_future(heard(patient))
    await asyncio.sleep(0.1)
    assert not patient.interject(ReplayedLine((chunk("moment"),)))
    assert [word for word, _ in await hearing] == ["one", "two"]


async def test_a_pacer_lets_audio_go_so_far_ahead_and_no_further() -> None:
    loop = asyncio.get_running_loop()
    pacer, begun = Pacer(2.0), loop.time()
    for _ in range(5):
        await pacer.went(1.0)
    assert loop.time() - begun == pytest.approx(3.0)
    pacer.hurry.set()
    await pacer.went(60.0)
    assert loop.time() - begun == pytest.approx(3.0)
