"""One utterance: the same samples however it is sliced, and every word in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.streaming.ports import SpeechChunk, WordMark
from ringtrue.voices.flite import VOICES, Flite, FliteVoice
from ringtrue.voices.renderer import RATES, RenderedVoice, Renderer, active_level

PHRASES = (
    "Hello there,",
    "your order 48213 ships on March 3rd,",
    "for $5.20. 🙂",
    "Is that all right?",
)

_VOICES: dict[str, RenderedVoice] = {}


def loaded(name: str) -> RenderedVoice:
    """Each voice once per process."""
    if name not in _VOICES:
        _VOICES[name] = RenderedVoice(FliteVoice(Flite(), name))
    return _VOICES[name]


def speak(
    voice: RenderedVoice,
    rate: int,
    phrases: tuple[str, ...] = PHRASES,
    size: Callable[[], int] = lambda: 20,
) -> list[SpeechChunk]:
    """All slices of an utterance."""
    renderer = Renderer(voice, rate)
    chunks: list[SpeechChunk] = []
    for phrase in phrases:
        renderer.begin(phrase)
        while not renderer.idle:
            chunks.append(renderer.next_slice(size()))
    chunks.append(renderer.finish())
    return chunks


def joined(chunks: list[SpeechChunk]) -> bytes:
    return b"".join(chunk.pcm for chunk in chunks)


def samples(chunks: list[SpeechChunk]) -> npt.NDArray[np.float64]:
    return np.frombuffer(joined(chunks), "<i2") / 32768


def words(chunks: list[SpeechChunk]) -> list[WordMark]:
    return [word for chunk in chunks for word in chunk.words]


@settings(max_examples=15, deadline=None)
@given(data=st.data(), rate=st.sampled_from(RATES))
def test_any_slicing_gives_the_same_samples_and_marks(data: st.DataObject, rate: int) -> None:
    whole = speak(loaded("slt"), rate, size=lambda: 10**6)
    sizes = data.draw(st.lists(st.integers(1, 90), min_size=5, max_size=12))
    turn = iter(range(10**9))
    sliced = speak(loaded("slt"), rate, size=lambda: sizes[next(turn) % len(sizes)])
    assert joined(sliced) == joined(whole)
    assert words(sliced) == words(whole)


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("rate", RATES)
def test_marks_are_complete_monotone_and_in_their_chunk(name: str, rate: int) -> None:
    chunks = speak(loaded(name), rate)
    assert " ".join(mark.text for mark in words(chunks)) == " ".join(PHRASES)
    position = last = 0
    for chunk in chunks:
        end = position + len(chunk.pcm) // 2
        for mark in chunk.words:
            assert last <= mark.end
            assert position <= mark.end <= end
            last = mark.end
        position = end
    assert sum(chunk.phrase_end for chunk in chunks) == len(PHRASES)


@pytest.mark.parametrize("name", ["slt", "awb"])
@pytest.mark.parametrize("rate", RATES)
def test_a_word_ends_where_its_sound_ends(name: str, rate: int) -> None:
    chunks = speak(loaded(name), rate, ("Go,", "no.", "Three?"))
    sound, marks = samples(chunks), words(chunks)
    for mark in marks:
        before = sound[mark.end - rate // 10 : mark.end]
        after = sound[mark.end : mark.end + rate // 20]
        later = sound[mark.end + rate // 40 : mark.end + rate // 20]
        assert (before**2).sum() > 0.9 * ((before**2).sum() + (after**2).sum())
        assert (before**2).mean() > 30 * (later**2).mean()


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("rate", RATES)
def test_level_and_headroom(name: str, rate: int) -> None:
    sound = samples(speak(loaded(name), rate))
    assert -23.5 < active_level(sound, rate) < -19.5
    assert np.abs(sound).max() < 0.98
    assert abs(sound.mean()) < 2e-4


def test_the_leading_pause_is_short_and_joins_do_not_click() -> None:
    rate = 16000
    chunks = speak(loaded("slt"), rate, ("Good morning,", "how are you?"))
    sound = samples(chunks)
    onset = np.argmax(np.abs(sound) > 0.01)
    assert onset < 0.06 * rate
    join = sum(
        len(chunk.pcm) // 2 for chunk in chunks[: [c.phrase_end for c in chunks].index(True) + 1]
    )
    around = sound[join - 80 : join + 80]
    assert np.abs(np.diff(around)).max() < 0.01


@pytest.mark.parametrize(
    ("end", "least", "most"), [(",", 0.08, 0.16), (".", 0.15, 0.5), ("", 0.0, 0.08)]
)
def test_pauses_between_phrases_follow_punctuation(end: str, least: float, most: float) -> None:
    marks = words(speak(loaded("slt"), 8000, (f"one two{end}", "three")))
    alone = words(speak(loaded("slt"), 8000, ("three",)))
    pause = (marks[2].end - marks[1].end - alone[0].end) / 8000
    assert least <= pause <= most


@pytest.mark.parametrize("text", ["", " ", "...", "🙂", "\0\x01", "—"])
def test_nothing_to_say_is_a_phrase_all_the_same(text: str) -> None:
    chunks = speak(loaded("slt"), 8000, (text,))
    assert sum(chunk.phrase_end for chunk in chunks) == 1
    assert " ".join(mark.text for mark in words(chunks)) == text.strip()
    assert len(joined(chunks)) < 2 * 8000 // 20


def test_long_text_is_cut_into_pieces_and_loses_no_word() -> None:
    text = " ".join(f"this is sentence {n}, and it goes on." for n in range(1, 12))
    marks = words(speak(loaded("slt"), 8000, (text,)))
    assert " ".join(mark.text for mark in marks) == text
    unpunctuated = " ".join(["word"] * 70)
    assert len(words(speak(loaded("slt"), 8000, (unpunctuated,)))) == 70


def test_rates_are_checked() -> None:
    with pytest.raises(ValueError, match=r"rate must be one of \(8000, 16000\), got 44100"):
        Renderer(loaded("slt"), 44100)


def test_an_idle_renderer_has_no_slice() -> None:
    with pytest.raises(ValueError, match="begin a phrase first"):
        Renderer(loaded("slt"), 8000).next_slice(4)


def test_level_of_silence() -> None:
    assert active_level(np.zeros(8000), 8000) == float("-inf")
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert active_level(tone, 16000) == pytest.approx(-3.01, abs=0.05)
