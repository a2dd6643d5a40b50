"""Cloning end to end, in little: another stock voice plays the speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from speech import say

from ringtrue.voices.cloning.analysis import Frames, analyse
from ringtrue.voices.cloning.bases import BaseMaterial, voice_of
from ringtrue.voices.cloning.fit import HUSH, PITCH_COST, PITCH_SHARE, _Candidate, _Report, clone
from ringtrue.voices.cloning.hush import loud_level
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.cloning.refine import Schedule
from ringtrue.voices.cloning.script import JUDGING
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.engine import Progress, Speech
from ringtrue.voices.errors import CloningError
from ringtrue.voices.flite import Flite, FliteVoice, spoken_tokens
from ringtrue.voices.renderer import RenderedVoice

RATE = 16000
WORDS = (
    "the office is open from nine to five on weekdays, but never on sundays or holidays. "
    "if you leave your name and number, somebody will ring you back before the evening."
)


@pytest.fixture(scope="module")
def speaker() -> np.ndarray:
    """A voice that is no stock voice: one of them, three semitones higher and faster."""
    slow = say(WORDS, rate=RATE, voice="awb").astype(np.float32) / 32768
    places = np.arange(0, len(slow) - 1, 2 ** (3 / 12))
    return np.interp(places, np.arange(len(slow)), slow).astype(np.float32)


@pytest.fixture(scope="module")
def model(speaker: np.ndarray) -> CloneModel:
    return clone(Speech(speaker), schedule=Schedule(steps=8, windows=6))


@pytest.mark.timeout(300)
def test_the_clone_is_more_like_the_speaker_than_any_stock_voice(
    model: CloneModel, speaker: np.ndarray
) -> None:
    encoder = SpeakerEncoder.load()
    target = encoder.embed(speaker, RATE)
    flite = Flite()
    stock = [FliteVoice(flite, name) for name in ("slt", "awb", "rms")]
    kept = CloneModel.from_bytes(model.to_bytes())
    base = next(voice for voice in stock if voice.name == kept.base)
    clone_voice = RenderedVoice(kept.source(base), kept.postfilter, neural=kept.neural)
    ours = similarity(target, voice_of(clone_voice, JUDGING[5:8], encoder))
    theirs = [
        similarity(target, voice_of(RenderedVoice(voice), JUDGING[5:8], encoder)) for voice in stock
    ]
    assert ours > max(theirs) + 0.05


def candidate(likeness: float, semitones: float, phrases: Sequence[str] = ()) -> _Candidate:
    """One that moves the pitch by so much and leaves the spectrum alone."""
    voice = FliteVoice(Flite(), "slt")
    found = tuple(voice.analyse(spoken_tokens(text)) for text in phrases)
    nothing = Frames(np.zeros(0), np.zeros((0, 25)), np.zeros((0, 5)))
    model = CloneModel(
        base="slt",
        pitch=PitchMap(5.0, 5.0 + semitones / 12 * np.log(2), 1.0),
        matrices=np.stack([np.eye(25)] * 2),
        offsets=np.zeros((2, CLASSES, 25)),
        strengths=np.stack([np.ones(5), np.zeros(5)]),
    )
    return _Candidate(BaseMaterial(voice, found, nothing, nothing), voice, model, likeness)


def test_a_base_voice_whose_pitch_is_moved_less_is_preferred_where_both_are_as_near() -> None:
    """Up and down alike; what is much nearer to the speaker is taken from any pitch."""
    here, above, below = candidate(0.70, 1), candidate(0.70, 8), candidate(0.70, -8)
    assert here.promise > above.promise == pytest.approx(below.promise)
    assert here.promise - above.promise == pytest.approx(PITCH_COST * 7 / 12 * np.log(2))
    assert candidate(0.80, 8).promise > here.promise


def test_a_clones_pitch_goes_its_share_of_the_way_to_the_speakers(
    model: CloneModel, speaker: np.ndarray
) -> None:
    f0 = analyse(speaker).speech().f0
    way = np.median(np.log(f0[f0 > 0])) - model.pitch.source
    assert model.pitch.target == pytest.approx(model.pitch.source + PITCH_SHARE * way, abs=1e-4)


def test_what_is_quiet_is_reckoned_from_the_clones_own_loud_frames() -> None:
    one = candidate(0.7, 0, WORDS.split(". ")[:1])
    louder = replace(one.model, offsets=np.eye(25)[0] + np.zeros((2, CLASSES, 25)))
    plain = loud_level(one.base.phrases[0].mcep)
    assert one.hushed(one.model).hush == HUSH
    assert one.hushed(one.model).loud == pytest.approx(plain, abs=1e-4)
    assert one.hushed(louder).loud == pytest.approx(plain + 1.0, abs=1e-4)
    again = one.hushed(one.hushed(one.model))
    assert again.loud == one.hushed(one.model).loud


def test_progress_goes_through_stages_and_never_falls() -> None:
    seen: list[Progress] = []
    report = _Report(seen.append)
    report.stage("first", 0.0, 0.4)
    report.within(0.5)
    report.stage("second", 0.4, 1.0)
    report.within(1.0)
    assert [(one.doing, pytest.approx(one.done)) for one in seen] == [
        ("first", 0.0), ("first", 0.2), ("second", 0.4), ("second", 1.0)
    ]  # fmt: skip
    _Report(None).stage("nobody listens", 0.0, 1.0)


def test_too_little_speech_is_refused_before_any_work(speaker: np.ndarray) -> None:
    with pytest.raises(CloningError, match=r"3\.0 s of recording; at least 5 s is needed"):
        clone(Speech(speaker[: 3 * RATE]))


@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_what_is_no_speech_is_refused(kind: str) -> None:
    level = {"silence": 0.0, "noise": 0.1}[kind]
    samples = np.random.default_rng(0).normal(0, level, 8 * RATE)
    with pytest.raises(CloningError, match="speech"):
        clone(Speech(samples.astype(np.float32)))
