"""A cloned voice's likeness: one figure at enrolment and at every audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import numpy as np
import pytest
import pytest_asyncio

from ringtrue.streaming.ports import SynthesisStream
from ringtrue.voices.encoder import SpeakerEncoder, centroid
from ringtrue.voices.engine import PreparedVoice
from ringtrue.voices.quality.likeness import SENTENCES, Audit, audit, likeness, spoken
from ringtrue.voices.stock import FliteEngine


class Stock:
    """A stock voice in the place of a cloned one."""

    speaks_markup = True

    def __init__(self, engine: FliteEngine, name: str) -> None:
        self._open = partial(engine.open, name)

    def open(self, rate: int) -> SynthesisStream:
        return self._open(rate)


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(threads=2)
    yield made
    await made.close()


async def test_a_voice_is_like_itself_and_unlike_another(engine: FliteEngine) -> None:
    encoder = SpeakerEncoder.load()
    slt: PreparedVoice = Stock(engine, "slt")
    rms: PreparedVoice = Stock(engine, "rms")
    recordings = await spoken(slt)
    assert len(recordings) == len(SENTENCES)
    assert all(one.dtype == np.float32 and 0.1 < np.abs(one).max() < 1 for one in recordings)
    speaker = centroid([encoder.embed(one, 16000) for one in recordings])
    same = await likeness(slt, speaker, encoder)
    assert same == pytest.approx(1.0, abs=1e-4)
    assert not (await audit(slt, speaker, same, encoder)).drifted
    other = await audit(rms, speaker, same, encoder)
    assert other.likeness < 0.8
    assert other.drifted


def test_drift_is_a_fall_beyond_the_bound() -> None:
    assert not Audit(0.80, 0.84).drifted
    assert Audit(0.78, 0.84).drifted
    assert not Audit(0.90, 0.84).drifted
