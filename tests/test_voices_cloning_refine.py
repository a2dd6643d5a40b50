"""The refinement's arithmetic, and that it does what it is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from speech import say

from ringtrue.voices.cloning.analysis import analyse
from ringtrue.voices.cloning.bases import material, voice_of
from ringtrue.voices.cloning.clarity import PhoneClassifier
from ringtrue.voices.cloning.ge2e_gradient import DifferentiableEncoder
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.cloning.refine import Aim, Change, Refinement, Schedule, levelled
from ringtrue.voices.cloning.script import LEARNING
from ringtrue.voices.cloning.statistics import fit_mixture
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.encoder.mel import filterbank
from ringtrue.voices.flite import Flite, FliteVoice, Parameters, spoken_tokens
from ringtrue.voices.renderer import RenderedVoice

SHORT = Schedule(steps=10, windows=6)


def unchanged() -> CloneModel:
    return CloneModel(
        base="slt",
        pitch=PitchMap(5.1, 5.1, 1.0),
        matrices=np.stack([np.eye(25), np.eye(25)]),
        offsets=np.zeros((2, CLASSES, 25)),
        strengths=np.stack([np.ones(5), np.zeros(5)]),
        postfilter=0.4,
    )


@pytest.fixture(scope="module")
def voice() -> FliteVoice:
    return FliteVoice(Flite(), "slt")


@pytest.fixture(scope="module")
def phrases(voice: FliteVoice) -> list[Parameters]:
    return [voice.analyse(spoken_tokens(text)) for text in LEARNING[:4]]


@pytest.fixture(scope="module")
def aim(voice: FliteVoice) -> Aim:
    text = "your table is booked for thursday evening, and we look forward to seeing you then."
    samples = say(text, rate=16000, voice="awb")
    encoder = SpeakerEncoder.load()
    return Aim(
        encoder.embed(samples, 16000),
        analyse(samples / 32768.0).speech().mcep,
        voice_of(RenderedVoice(voice), LEARNING[:2], encoder),
        material(voice, LEARNING[:2]).added,
    )


@pytest.fixture(scope="module")
def network() -> DifferentiableEncoder:
    return DifferentiableEncoder()


def refinement(
    phrases: list[Parameters],
    aim: Aim,
    network: DifferentiableEncoder,
    schedule: Schedule = SHORT,
    model: CloneModel | None = None,
) -> Refinement:
    rng = np.random.default_rng(0)
    classifier = PhoneClassifier([phrases])
    start = model or unchanged()
    return Refinement(start, phrases, aim, network, classifier, schedule, rng)


def test_a_change_added_to_a_model_is_the_change_of_its_output(phrases: list[Parameters]) -> None:
    rng = np.random.default_rng(2)
    change = Change(
        offsets=np.tile(rng.normal(0, 0.1, 25), (CLASSES, 1)),
        matrix=rng.normal(0, 0.05, (25, 25)),
        mean=rng.normal(size=25),
        spread=rng.uniform(0.5, 2.0, 25),
    )
    model = replace(unchanged(), offsets=rng.normal(0, 0.1, (2, CLASSES, 25)))
    before = model.transform(phrases[0]).mcep.astype(np.float64)
    for strength in (0.0, 0.5, 1.0):
        after = change.added_to(model, strength).transform(phrases[0]).mcep
        normal = (before - change.mean) / change.spread
        expected = (
            before + strength * (normal @ change.matrix.T + change.offsets[0]) * change.spread
        )
        np.testing.assert_allclose(after, expected, atol=1e-4)


def test_it_makes_the_voice_more_like_the_target(
    voice: FliteVoice,
    phrases: list[Parameters],
    aim: Aim,
    network: DifferentiableEncoder,
) -> None:
    shares: list[float] = []
    change = refinement(phrases, aim, network).run(shares.append)
    assert shares == [step / 10 for step in range(1, 11)]
    encoder = SpeakerEncoder.load()
    # Sentences it wasn't fitted on, through the whole renderer.
    before, after = (
        similarity(
            aim.speaker,
            voice_of(RenderedVoice(model.source(voice), model.postfilter), LEARNING[5:8], encoder),
        )
        for model in (unchanged(), change.added_to(unchanged()))
    )
    assert after > before + 0.05


def test_it_leads_away_from_the_base_voice(
    voice: FliteVoice,
    phrases: list[Parameters],
    aim: Aim,
    network: DifferentiableEncoder,
) -> None:
    encoder = SpeakerEncoder.load()
    alike = []
    for away in (0.0, 2.0):
        fit = refinement(phrases, aim, network, replace(SHORT, away=away))
        model = fit.run(lambda _: None).added_to(unchanged())
        spoken = voice_of(RenderedVoice(model.source(voice), 0.4), LEARNING[5:8], encoder)
        alike.append(similarity(aim.base, spoken))
    assert alike[1] < alike[0] - 0.02


def test_the_slope_is_that_of_the_loss(
    phrases: list[Parameters], aim: Aim, network: DifferentiableEncoder
) -> None:
    """The likeness of rendered speech to first order, by moving one offset and rendering again."""
    free = Schedule(steps=1, windows=1000, overall=0.0, varying=0.0, clarity=0.0, divergence=0.0)
    fit = refinement(phrases, aim, network, free)
    slope = fit._slope(np.zeros((CLASSES + 25, 25), np.float32))[:CLASSES]
    step = 0.05

    def loss(side: float) -> float:
        change = Change(-side * step * slope / np.linalg.norm(slope), np.zeros((25, 25)),
                        fit._mean.astype(float), fit._spread.astype(float))  # fmt: skip
        moved = refinement(phrases, aim, network, free, change.added_to(unchanged()))
        heard = levelled(moved._windows.power) @ filterbank()
        embeddings = network.forward(np.swapaxes(heard, 0, 1)).embeddings
        mean = embeddings.mean(axis=0)
        together = free.centroid * (mean @ aim.speaker) / np.linalg.norm(mean)
        apart = free.away * (embeddings @ aim.base).mean()
        return -float((embeddings @ aim.speaker).mean() + together - apart)

    told = -float(np.linalg.norm(slope))
    assert (loss(1.0) - loss(-1.0)) / (2 * step) == pytest.approx(told, rel=0.25)


def test_penalties_count_decibels_and_confusions(
    phrases: list[Parameters], aim: Aim, network: DifferentiableEncoder
) -> None:
    """Their slope against differences of what they are said to be."""
    plan = replace(SHORT, overall=0.03, varying=0.07, clarity=2.0, divergence=0.0)
    fit = refinement(phrases, aim, network, plan)
    rng = np.random.default_rng(4)
    at, along = (rng.normal(0, 0.1, (CLASSES + 25, 25)).astype(np.float32) for _ in range(2))
    inputs = np.concatenate([fit._speech_classes, fit._speech], axis=1).astype(np.float64)

    known = fit._classifier.known[fit._speech_phones]

    def penalty(parameters: np.ndarray) -> float:
        change = inputs @ parameters * fit._spread
        decibels = change @ fit._cosines.T.astype(np.float64) * 20 / np.log(10)
        varying = decibels - decibels.mean(axis=0)
        made = fit._speech * fit._spread + fit._mean + change
        share = fit._classifier.posteriors(made.astype(np.float32)).astype(np.float64)
        right = share[np.arange(len(made)), fit._speech_phones]
        confused = -np.where(known, np.log(np.maximum(right, 1e-30)), 0.0).mean()
        return float(
            plan.overall * (decibels**2).mean()
            + plan.varying * (varying**2).mean()
            + plan.clarity * confused
        )

    numeric = (penalty(at + 0.05 * along) - penalty(at - 0.05 * along)) * 10
    assert float((fit._penalty_slope(at) * along).sum()) == pytest.approx(numeric, rel=1e-2)


def test_words_are_held_apart(
    phrases: list[Parameters], aim: Aim, network: DifferentiableEncoder
) -> None:
    """With the classifier's word, fewer frames are taken for another phone than without it."""
    right = []
    for weight in (0.0, 2.0):
        fit = refinement(phrases, aim, network, replace(SHORT, clarity=weight))
        change = fit.run(lambda _: None)
        made = fit._speech * fit._spread + fit._mean
        made += (fit._speech @ change.matrix.T + fit._speech_classes @ change.offsets) * fit._spread
        share = fit._classifier.posteriors(made.astype(np.float32))
        right.append(float((share.argmax(axis=1) == fit._speech_phones).mean()))
    assert right[1] > right[0] + 0.03


def test_the_sounds_come_nearer_to_the_speakers(
    phrases: list[Parameters], aim: Aim, network: DifferentiableEncoder
) -> None:
    """By a mixture of the speaker's frames that the fit doesn't know."""
    speaker = fit_mixture(aim.mcep[:, 1:], 16, np.random.default_rng(9))
    added = aim.added[np.random.default_rng(8).integers(len(aim.added), size=4000), 1:]
    likely = []
    for weight in (0.0, 0.3):
        fit = refinement(phrases, aim, network, replace(SHORT, divergence=weight))
        change = fit.run(lambda _: None)
        made = fit._speech * fit._spread + fit._mean
        made += (fit._speech @ change.matrix.T + fit._speech_classes @ change.offsets) * fit._spread
        rows = made[:, 1:] + added[: len(made)]
        likely.append(np.logaddexp.reduce(speaker.log_densities(rows), axis=1).mean())
    assert likely[1] > likely[0] + 1.0
