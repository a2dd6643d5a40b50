"""One voice measured against everybody it could be taken for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from speech import say

from ringtrue.voices.quality.measure import Examiner, Recording
from ringtrue.voices.quality.report import Report, goals, table

LEARNED = (
    "Good morning, you have reached the front desk.",
    "The engineer should be with you this afternoon.",
    "My brother threw the heavy leather jacket over the bench.",
)
SCRIPT = (
    "Which day would suit you best, Monday or Tuesday?",
    "Your key card is waiting for you at the desk downstairs.",
)


def spoken(voice: str, sentences: tuple[str, ...]) -> list[Recording]:
    return [np.asarray(say(text, 16000, voice) / 32768, np.float32) for text in sentences]


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    pytest.importorskip("speechmos", reason="DNSMOS needs the extra bench")
    candidates = {voice: spoken(voice, LEARNED) for voice in ("slt", "rms", "awb")}
    made = Examiner(candidates, spoken("kal16", LEARNED), SCRIPT)
    yield made
    made.close()


def test_a_voice_is_found_among_the_others(examiner: Examiner) -> None:
    utterances = spoken("slt", SCRIPT)
    row = examiner.row(
        "slt", "cloned", utterances, errors=examiner.errors(utterances), seconds=2.04
    )
    assert row.top1 == row.llr_top1 == 1.0
    assert row.cosine > 0.85 > row.nearest_other
    assert row.llr > 0
    assert 2.0 < row.p808 < 5.0
    assert row.wer is not None
    assert row.wer < 0.1
    assert row.wer_general is not None
    assert row.seconds == 2.0


def test_somebody_else_is_not(examiner: Examiner) -> None:
    row = examiner.row("slt", "cloned", spoken("rms", SCRIPT))
    assert row.top1 == row.llr_top1 == 0.0
    assert row.nearest_other > row.cosine
    assert row.wer is None
    report = Report((row,))
    assert not all(reached for _, reached in goals(report))
    assert len(list(table(report.rows))) == 2


def test_names_go_with_their_cosines(examiner: Examiner) -> None:
    names, cosines = examiner.cosines(spoken("awb", SCRIPT))
    assert cosines.shape == (2, 3)
    assert [names[index] for index in cosines.argmax(axis=1)] == ["awb", "awb"]
