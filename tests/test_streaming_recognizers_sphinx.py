"""PocketSphinx on real speech at 8 kHz: words, partials, rejection, calls side by side.

The bounds leave a margin above what was measured with the packages of Debian 12 (in comments).
"""

from __future__ import annotations

import asyncio
import gzip
import wave
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import psutil
import pytest
from speech import pause, say

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.decoding import READY, DecoderSet, Utterance
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.pool import PoolPolicy, WorkerPool
from ringtrue.streaming.recognizers.port import Transcript
from ringtrue.streaming.recognizers.sphinx import (
    MIRROR_GAIN,
    SphinxRecognizer,
    SphinxStream,
)
from ringtrue.streaming.recognizers.vocabulary import Vocabulary, normalize

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")

RECEPTION = Vocabulary(
    (
        "I would like to book an appointment",
        "I'd like to cancel my appointment",
        "can I speak to a human please",
        "what are your opening hours",
        "I want to talk about my bill",
        "is the doctor available on {day}",
        "an appointment on {day} at {hour}",
        "{day} in the morning",
        "put me through to the operator",
        "I forgot my password",
        "my number is",
    ),
    {"hour": ("nine", "ten", "eleven", "half past nine", "noon")},
)
SAID = (
    "I would like to book an appointment",
    "is the doctor available on Thursday",
    "an appointment on Monday at half past nine",
    "what are your opening hours",
    "I want to cancel my appointment",
    "put me through to the operator please",
    "no thank you",
    "my number is five five one two",
)
FOREIGN = (
    "my grandmother baked a wonderful chocolate cake",
    "he threw the ball over the garden fence",
    "quantum mechanics describes particles at small scales",
    "seventeen elephants marched across the river",
    "please water the plants while I am gone",
)
VOICES = ("slt", "rms")


def errors(reference: Sequence[str], found: Sequence[str]) -> int:
    """Word errors: substitutions, insertions and deletions of the best alignment."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[Sequence[str], str]]) -> float:
    counted = [(errors(words, text.split()), len(words)) for words, text in pairs]
    return sum(wrong for wrong, _ in counted) / sum(total for _, total in counted)


async def hear(stream: SphinxStream, pcm: bytes, partials: list[str] | None = None) -> Transcript:
    """One utterance in 40 ms blocks, never far ahead of the worker."""
    await stream.start()
    block = 640 * (stream._rate // 8000)
    for start in range(0, len(pcm), block):
        text = await stream.accept(pcm[start : start + block])
        if text and partials is not None:
            partials.append(text)
        utterance = stream._utterance
        assert utterance is not None
        while utterance._sent - utterance._done > stream._rate and not utterance.final.done():
            await asyncio.sleep(0.002)
    return await stream.finish()


def spoken(text: str, voice: str, rate: int = 8000) -> bytes:
    return say(text, rate, voice).tobytes() + pause(0.2, rate).tobytes()


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(PoolPolicy(processes=2))
    yield pool
    await pool.close()


async def loaded(pool: WorkerPool, grammar: Grammar, **options: float) -> SphinxRecognizer:
    recognizer = SphinxRecognizer(grammar, pool, **options)
    await recognizer.load()
    return recognizer


async def test_synthetic_callers_with_a_domain_vocabulary(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION), min_confidence=0.0)
    pairs = []
    for voice in VOICES:
        stream = recognizer.open(8000)
        for text in SAID:
            pairs.append((normalize(text), (await hear(stream, spoken(text, voice))).text))
    assert word_error_rate(pairs) <= 0.15  # measured: 0.06


async def test_human_prompts_with_a_closed_domain(pool: WorkerPool) -> None:
    if not (TRANSCRIPTS.is_file() and SOUNDS.is_dir()):
        pytest.skip("needs the Debian packages asterisk-core-sounds-en and -en-wav")
    prompts: dict[str, list[str]] = {}
    with gzip.open(TRANSCRIPTS, "rt") as lines:
        for line in lines:
            name, _, text = line.partition(":")
            words = normalize(text)
            plain = not set('[("') & set(text)
            if name.startswith(("conf-", "vm-", "agent-")) and plain and 3 <= len(words) <= 20:
                prompts[name] = words
    grammar = Grammar(vocabulary=Vocabulary(tuple(" ".join(w) for w in prompts.values())))
    rates = {}
    for gain in (0.0, MIRROR_GAIN):
        recognizer = await loaded(pool, grammar, min_confidence=0.0, mirror_gain=gain)
        pairs, stream = [], recognizer.open(8000)
        for name in sorted(prompts)[::6]:
            with wave.open(str(SOUNDS / f"{name}.wav")) as wav:
                assert wav.getframerate() == 8000
                pcm = wav.readframes(wav.getnframes()) + pause(0.2).tobytes()
            pairs.append((prompts[name], (await hear(stream, pcm)).text))
        assert len(pairs) >= 15
        rates[gain] = word_error_rate(pairs)
    assert rates[MIRROR_GAIN] <= 0.15, rates  # measured: 0.09
    assert rates[MIRROR_GAIN] < rates[0.0] - 0.03, rates  # without the image: 0.19


async def test_partials_grow_before_the_end(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION))
    partials: list[str] = []
    text = "I would like to book an appointment"
    # Slower than any machine decodes: the partials come while audio is still going in.
    stream = recognizer.open(8000)
    await stream.start()
    pcm = spoken(text, "slt")
    for start in range(0, len(pcm), 960):
        partial = await stream.accept(pcm[start : start + 960])
        if partial:
            partials.append(partial)
        utterance = stream._utterance
        assert utterance is not None
        while utterance._sent - utterance._done > 2000:
            await asyncio.sleep(0.002)
    assert len(partials) >= 3
    assert partials[0] != partials[-1]
    assert (await stream.finish()).text == normalize_text(text)


def normalize_text(text: str) -> str:
    return " ".join(normalize(text))


async def test_foreign_speech_is_rejected_and_own_is_not(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION))
    stream = recognizer.open(8000)
    own = [await hear(stream, spoken(text, v)) for text in SAID for v in VOICES]
    foreign = [await hear(stream, spoken(text, v)) for text in FOREIGN for v in VOICES]
    assert sum(found.rejected for found in own) <= 3
    assert sum(bool(found.text) for found in foreign) <= 2
    for found in (*own, *foreign):
        assert (found.text == "") == (found.confidence < recognizer.min_confidence)


async def test_silence_has_no_text(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION))
    stream = recognizer.open(8000)
    assert (await hear(stream, pause(1.0).tobytes())).text == ""
    await stream.start()
    assert (await stream.finish()).text == ""


async def test_wideband_calls_are_heard_as_they_are(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION), min_confidence=0.0)
    stream = recognizer.open(16000)
    pairs = [(normalize(t), (await hear(stream, spoken(t, "slt", 16000))).text) for t in SAID]
    assert word_error_rate(pairs) <= 0.15  # measured: 0.06


async def test_grammar_file_limits_what_is_heard(pool: WorkerPool, tmp_path: Path) -> None:
    path = tmp_path / "menu.jsgf"
    path.write_text(
        "#JSGF V1.0;\ngrammar menu; // three choices\n"
        "public <menu> = [please] ( sales | billing {tag} | technical support ) [please];\n"
    )
    recognizer = await loaded(pool, Grammar(jsgf=path))
    assert recognizer.report is not None
    assert recognizer.report.words == 5
    stream = recognizer.open(8000)
    for text in ("sales please", "technical support", "billing"):
        assert (await hear(stream, spoken(text, "rms"))).text == text


async def test_calls_side_by_side_hear_what_they_hear_alone(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION), min_confidence=0.0)

    async def call(first: int) -> list[Transcript]:
        stream = recognizer.open(8000)
        turns = [SAID[(first + i) % len(SAID)] for i in range(3)]
        return [await hear(stream, spoken(text, VOICES[first % 2])) for text in turns]

    alone = [await call(i) for i in range(8)]
    together = await asyncio.gather(*(call(i) for i in range(8)))
    for apart, beside in zip(alone, together, strict=True):
        assert [found.text for found in beside] == [found.text for found in apart]
        # A decoder that has served before may differ in the last digit of its log table.
        for one, other in zip(apart, beside, strict=True):
            assert other.confidence == pytest.approx(one.confidence, abs=1e-4)


async def test_memory_and_decoders_stay_bounded(pool: WorkerPool) -> None:
    recognizer = await loaded(pool, Grammar(vocabulary=RECEPTION))
    stream = recognizer.open(8000)
    pcm = spoken(SAID[0], "slt")

    def resident() -> int:
        return sum(psutil.Process(pid).memory_info().rss for pid in pool.pids)

    grown: list[int] = []
    while len(grown) < 4 and not (grown and grown[-1] < 12 * 2**20):
        before = resident()  # on a busy machine decoders are made, and workers replaced, meanwhile
        for turn in range(60):
            if turn % 3:
                await hear(stream, pcm)
            else:
                await stream.start()
                await stream.accept(pcm)
                await stream.cancel()
        grown.append(resident() - before)
    assert grown[-1] < 12 * 2**20, grown


def test_as_many_decoders_are_kept_as_were_needed_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = DecoderSet(Grammar(vocabulary=RECEPTION))
    made: list[object] = []
    monkeypatch.setattr(decoders, "_create", lambda: made.append(object()) or made[-1])
    assert not decoders.short  # nobody has asked for this grammar
    first = decoders.take()
    decoders.give_back(first)
    while decoders.short:
        decoders.make_one()
    assert len(made) == READY - 1

    served = {decoders.take() for _ in range(READY)}
    assert len(made) == READY - 1
    taken = [*served, *(decoders.take() for _ in range(4))]
    decoders.busy(len(taken))
    assert len(made) == READY + 3
    for decoder in taken:
        decoders.give_back(decoder)
    decoders.settle(busy=0)  # all were needed at once since the last time
    assert {decoders.take() for _ in taken} == set(taken)
    for decoder in taken:
        decoders.give_back(decoder)
    decoders.settle(busy=0)  # and now no longer
    assert {decoders.take() for _ in range(READY)} <= set(taken)
    assert len(made) == READY + 3
    decoders.take()
    assert len(made) == READY + 4


def test_decoders_that_cannot_be_made_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = DecoderSet(Grammar(vocabulary=RECEPTION))
    decoders.give_back(decoders.take())

    def refuse() -> None:
        raise RecognizerError("no memory")

    monkeypatch.setattr(decoders, "_create", refuse)
    assert decoders.short
    decoders.make_one()
    assert not decoders.short
    assert Utterance(decoders, 8000, 0.5, None).finish()


async def test_stream_without_an_utterance_says_so(pool: WorkerPool) -> None:
    stream = (await loaded(pool, Grammar(vocabulary=RECEPTION))).open(8000)
    with pytest.raises(RecognizerError, match="start one first"):
        await stream.accept(b"\0\0")
    with pytest.raises(RecognizerError, match="start one first"):
        await stream.finish()
    await stream.close()


def test_arguments_are_checked() -> None:
    pool = WorkerPool()
    with pytest.raises(ValueError, match="min_confidence must lie in"):
        SphinxRecognizer(Grammar(), pool, min_confidence=2.0)
    with pytest.raises(ValueError, match="8000 or 16000 Hz, got 44100"):
        SphinxRecognizer(Grammar(), pool).open(44100)
