"""Markup as it sounds: pitch, speed, level and pauses measured in the audio."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.config.speech_markup import EMPHASIS
from ringtrue.streaming.ports import SpeechChunk, WordMark
from ringtrue.streaming.ssml import PLAIN, Style
from ringtrue.voices.flite import VOICES, Flite, FliteVoice, Parameters, spoken_tokens
from ringtrue.voices.prosody import F0_RANGE, styled
from ringtrue.voices.renderer import (
    LEAD_FRAMES,
    RATES,
    TAIL_FRAMES,
    RenderedVoice,
    Renderer,
    active_level,
)
from ringtrue.voices.vocoder import HOP, TAIL

SENTENCE = "You may know where all our new yellow rings are now."
"""Mostly voiced, so that its pitch can be measured."""

_VOICES: dict[str, RenderedVoice] = {}

Sound = npt.NDArray[np.float64]


def loaded(name: str = "slt") -> RenderedVoice:
    """Each voice once per process."""
    if name not in _VOICES:
        _VOICES[name] = RenderedVoice(FliteVoice(Flite(), name))
    return _VOICES[name]


def speak(
    *phrases: str, voice: str = "slt", rate: int = 16000, sizes: tuple[int, ...] = (20,)
) -> list[SpeechChunk]:
    """All slices of an utterance."""
    renderer = Renderer(loaded(voice), rate)
    chunks: list[SpeechChunk] = []
    for phrase in phrases:
        renderer.begin(phrase)
        while not renderer.idle:
            chunks.append(renderer.next_slice(sizes[len(chunks) % len(sizes)]))
    return [*chunks, renderer.finish()]


def sound(chunks: list[SpeechChunk]) -> Sound:
    return np.frombuffer(b"".join(chunk.pcm for chunk in chunks), "<i2") / 32768


def words(chunks: list[SpeechChunk]) -> list[WordMark]:
    return [word for chunk in chunks for word in chunk.words]


def pitch_of(samples: Sound, rate: int) -> float:
    """Median F0 in Hz by normalised autocorrelation over the loud 40 ms windows."""
    size, found = rate // 25, []
    lags = np.arange(rate // 450, rate // 45)
    level = np.abs(samples).max()
    for start in range(0, len(samples) - size - int(lags[-1]), size // 2):
        frame = samples[start : start + size]
        if np.sqrt((frame**2).mean()) < 0.15 * level:
            continue
        shifted = np.stack([samples[start + lag : start + lag + size] for lag in lags])
        power = np.sqrt((frame**2).sum() * (shifted**2).sum(axis=1)) + 1e-12
        likeness = (shifted @ frame) / power
        # The shortest lag that is nearly the best: its multiples are as alike.
        best = int(np.flatnonzero(likeness > 0.95 * likeness.max())[0])
        while best + 1 < len(lags) and likeness[best + 1] > likeness[best]:
            best += 1
        if likeness[best] > 0.8:
            found.append(rate / lags[best])
    assert len(found) > 4
    return float(np.median(found))


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("semitones", [-5, -2, 2, 5])
def test_pitch_is_shifted_by_semitones(voice: str, semitones: int) -> None:
    plain = pitch_of(sound(speak(SENTENCE, voice=voice)), 16000)
    marked = f'<prosody pitch="{semitones:+}st">{SENTENCE}</prosody>'
    shifted = pitch_of(sound(speak(marked, voice=voice)), 16000)
    assert 12 * math.log2(shifted / plain) == pytest.approx(semitones, abs=0.7)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("percent", [50, 80, 125, 200])
def test_rate_scales_time_and_leaves_pitch_and_level(rate: int, percent: int) -> None:
    plain = speak(SENTENCE, rate=rate)
    marked = speak(f'<prosody rate="{percent}%">{SENTENCE}</prosody>', rate=rate)
    # From the end of the first word to the end of the last: whole frames, no pauses of fixed size.
    spans = [words(chunks)[-1].end - words(chunks)[0].end for chunks in (plain, marked)]
    assert spans[1] == pytest.approx(spans[0] * 100 / percent, abs=2 * rate * 0.005)
    assert active_level(sound(marked), rate) == pytest.approx(
        active_level(sound(plain), rate), abs=0.5
    )
    if rate == 16000:
        assert pitch_of(sound(marked), rate) == pytest.approx(
            pitch_of(sound(plain), rate), rel=0.04
        )


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("decibels", [-12, -3, 6])
def test_volume_is_gain(voice: str, decibels: int) -> None:
    plain = sound(speak(SENTENCE, voice=voice))
    marked = sound(speak(f'<prosody volume="{decibels:+}dB">{SENTENCE}</prosody>', voice=voice))
    assert len(marked) == len(plain)
    change = active_level(marked, 16000) - active_level(plain, 16000)
    assert change == pytest.approx(decibels, abs=0.3)


def test_the_loudest_there_is_is_limited_and_does_not_wrap() -> None:
    markup = f'<prosody volume="+12dB"><emphasis level="strong">{SENTENCE}</emphasis></prosody>'
    samples = sound(speak(markup))
    assert active_level(samples, 16000) > active_level(sound(speak(SENTENCE)), 16000) + 8
    assert np.abs(np.diff(samples)).max() < 1.2  # One that wrapped would jump by nearly two.


@pytest.mark.parametrize("level", ["strong", "moderate", "reduced"])
def test_emphasis_changes_one_word_by_the_documented_amounts(level: str) -> None:
    plain = speak("I really mean seven and nothing more.")
    marked = speak(f'I really mean <emphasis level="{level}">seven</emphasis> and nothing more.')
    before, after = words(plain), words(marked)
    assert [mark.text for mark in after] == [mark.text for mark in before]

    def lengths(marks: list[WordMark]) -> list[int]:
        return [b.end - a.end for a, b in zip(marks, marks[1:], strict=False)]

    amount = EMPHASIS[level]
    for index, (old, new) in enumerate(zip(lengths(before), lengths(after), strict=True)):
        factor = 1 / amount.rate if index == 2 else 1.0
        assert new == pytest.approx(old * factor, abs=2 * HOP)
    spans = [
        sound(chunks)[marks[2].end : marks[3].end]
        for chunks, marks in ((plain, before), (marked, after))
    ]
    change = active_level(spans[1], 16000) - active_level(spans[0], 16000)
    assert change == pytest.approx(amount.volume, abs=1.2)
    assert math.copysign(1, pitch_of(spans[1], 16000) / pitch_of(spans[0], 16000) - 1) == (
        math.copysign(1, amount.pitch)
    )


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("voice", VOICES)
def test_a_break_is_silence_of_its_length(voice: str, rate: int) -> None:
    frame = HOP * rate // 16000

    def said(milliseconds: int) -> tuple[Sound, list[WordMark]]:
        chunks = speak(
            f'Hello. <break time="{milliseconds}ms"/> Are you there?', voice=voice, rate=rate
        )
        return sound(chunks), words(chunks)

    short, long = said(200), said(1005)
    assert len(long[0]) - len(short[0]) == 161 * frame
    samples, marks = long
    quiet = np.abs(samples) < 1.5 / 32768
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    run = int(np.diff(edges)[::2].max())
    # Digital silence once the word has rung out.
    assert run >= (201 - LEAD_FRAMES - TAIL_FRAMES) * frame - TAIL * rate // 16000 - frame
    loud = np.abs(samples) > 0.02
    onset = marks[0].end + int(np.argmax(loud[marks[0].end + frame * 20 :])) + frame * 20
    assert (onset - marks[0].end) / rate == pytest.approx(1.005, abs=0.02)


def gap(*phrases: str) -> int:
    """Frames between the ends of "one" and "two"."""
    marks = words(speak(*phrases))
    (first,) = (mark.end for mark in marks if mark.text.startswith("one"))
    (second,) = (mark.end for mark in marks if mark.text.startswith("two"))
    return round((second - first) / HOP)


def test_a_break_counts_the_same_wherever_phrases_are_cut() -> None:
    alone = gap('one. <break time="400ms"/> two')
    assert gap("one.", '<break time="400ms"/>two') == alone
    assert gap('one. <break time="400ms"/>', "two") == alone
    assert gap("one", '<break time="400ms"/>', "two") == alone
    assert gap('one <break time="150ms"/>', '<break time="250ms"/> two') == alone
    assert gap('one? <break time="150ms"/><break time="250ms"/> two') == alone
    assert gap('one! <break time="500ms"/> two') == alone + 20


def test_a_break_may_shorten_a_pause_to_its_least() -> None:
    least = gap('one. <break strength="none"/> two')
    assert gap('one. <break time="50ms"/> two') == least
    assert gap('one. <break time="60ms"/> two') == least + 1
    assert gap("one. two") >= least


def test_a_break_before_and_after_everything() -> None:
    chunks = speak('<break time="500ms"/> yes')
    assert np.abs(sound(chunks)[: 16 * 480]).max() == 0
    plain, marked = (sound(speak(text)) for text in ("yes", 'yes <break time="500ms"/>'))
    assert len(marked) - len(plain) == (100 - TAIL_FRAMES - LEAD_FRAMES) * HOP
    (only,) = [chunk for chunk in speak('<break time="0s"/>') if chunk.phrase_end]
    assert only.pcm == b""


MARKED = (
    'Hello <emphasis level="strong">there</emphasis>, <prosody rate="slow" pitch="+3st">my',
    '<prosody volume="soft">code is <say-as interpret-as="digits">48 21</say-as>,</prosody>'
    '<break time="35ms"/> and',
    "<break/>that is it. <unknown>Really</unknown>! 3 < 5 &amp; so on.",
)


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=3, max_size=9).map(tuple),
    rate=st.sampled_from(RATES),
)
def test_any_slicing_gives_the_same_samples_and_marks(sizes: tuple[int, ...], rate: int) -> None:
    whole = speak(*MARKED, rate=rate, sizes=(10**6,))
    sliced = speak(*MARKED, rate=rate, sizes=sizes)
    assert (sound(sliced) == sound(whole)).all()
    assert words(sliced) == words(whole)
    assert sum(chunk.phrase_end for chunk in sliced) == len(MARKED)


@pytest.mark.parametrize("rate", RATES)
def test_marks_hold_no_tags_and_lie_in_their_chunk(rate: int) -> None:
    chunks = speak(*MARKED, rate=rate)
    assert " ".join(mark.text for mark in words(chunks)) == (
        "Hello there, my code is 48 21, and that is it. Really! 3 < 5 & so on."
    )
    position = last = 0
    for chunk in chunks:
        end = position + len(chunk.pcm) // 2
        for mark in chunk.words:
            assert last <= mark.end
            assert position <= mark.end <= end
            last = mark.end
        position = end


def test_markup_without_effect_changes_nothing() -> None:
    plain = speak("You may know where.")
    assert speak('<prosody rate="100%" pitch="+0st">You <x>may</x> know</prosody> where.') == plain


def analysed(text: str = "a yellow ring, now.") -> Parameters:
    return loaded().source.analyse(spoken_tokens(text))


def test_plain_styles_return_what_was_found() -> None:
    found = analysed()
    assert styled(found, [PLAIN] * 4) is found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(Style, st.floats(0.5, 2), st.floats(-12, 12), st.floats(-12, 12)),
        min_size=4,
        max_size=4,
    )
)
def test_any_styles_keep_the_layout(styles: list[Style]) -> None:
    found = analysed()
    made = styled(found, styles)
    frames = len(made.f0)
    assert made.mcep.shape == (frames, found.mcep.shape[1])
    assert made.strengths.shape == (frames, found.strengths.shape[1])
    assert made.f0.dtype == made.mcep.dtype == made.strengths.dtype == np.float32
    assert np.isfinite(made.mcep).all()
    voiced = made.f0[made.f0 > 0]
    assert voiced.min() >= F0_RANGE[0]
    assert voiced.max() <= F0_RANGE[1]
    assert list(made.token_ends) == sorted(made.token_ends)
    assert [name for name, _ in made.phones] == [name for name, _ in found.phones]
    assert all(0 <= end <= frames for end in (*made.token_ends, *(e for _, e in made.phones)))
    edges = [0, *found.token_ends[:-1], len(found.f0)]
    expected = sum(
        (b - a) / style.rate for a, b, style in zip(edges, edges[1:], styles, strict=False)
    )
    assert frames == pytest.approx(expected, abs=0.51)


def test_every_token_needs_a_style() -> None:
    with pytest.raises(ValueError, match="4 tokens need as many styles, got 3"):
        styled(analysed(), [PLAIN] * 3)
