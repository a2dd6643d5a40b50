"""Phone classes of frames."""

from __future__ import annotations

import numpy as np

from ringtrue.voices.cloning.phones import (
    CLASSES,
    GROUPS,
    SILENCE,
    VOICELESS,
    class_weights,
    phone_classes,
    voiceless,
)
from ringtrue.voices.flite import Flite, FliteVoice, spoken_tokens

PHONES = (("pau", 4), ("s", 10), ("iy", 20), ("pau", 24))


def test_frames_get_the_class_of_their_phone() -> None:
    classes = phone_classes(PHONES, 26)
    assert (classes[:4] == SILENCE).all()
    assert (classes[24:] == SILENCE).all()
    assert "s" in GROUPS[classes[5]]
    assert "iy" in GROUPS[classes[15]]


def test_weights_blend_at_boundaries_and_sum_to_one() -> None:
    weights = class_weights(PHONES, 24)
    assert weights.shape == (24, CLASSES)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    hard = np.eye(CLASSES)[phone_classes(PHONES, 24)]
    np.testing.assert_array_equal((weights != hard).any(axis=1).nonzero()[0],
                                  [2, 3, 4, 5, 8, 9, 10, 11, 18, 19, 20, 21])  # fmt: skip


def test_voiceless_phones_are_marked() -> None:
    np.testing.assert_array_equal(voiceless(PHONES, 24).nonzero()[0], np.arange(4, 10))


def test_every_phone_of_the_base_voice_has_a_class() -> None:
    voice = FliteVoice(Flite(), "slt")
    text = (
        "the judge saw a thin boy choose the measure, while you go home with five young "
        "vets who hang around here now."
    )
    names = {name for name, _ in voice.analyse(spoken_tokens(text)).phones}
    known = {phone for group in GROUPS for phone in group}
    assert len(names) > 30
    assert names <= known
    assert known > VOICELESS
