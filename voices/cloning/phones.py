"""Phones of the base voices, grouped by how they shape the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

GROUPS: Final[tuple[tuple[str, ...], ...]] = (
    ("aa", "ae", "ah", "ax", "ao", "aw", "ay"),
    ("eh", "ey", "ih", "iy", "y"),
    ("er", "ow", "oy", "uh", "uw", "r", "l", "w"),
    ("m", "n", "ng"),
    ("b", "d", "g", "v", "dh"),
    ("z", "zh", "jh", "s", "sh", "ch"),
    ("p", "t", "k", "hh", "f", "th"),
    ("pau",),
)
"""Open, front and back vowels with their glides, nasals, voiced stops and weak fricatives,
sibilants, voiceless stops and weak fricatives, silence."""

CLASSES: Final = len(GROUPS)
SILENCE: Final = CLASSES - 1

VOICELESS: Final = frozenset(("p", "t", "k", "f", "th", "s", "sh", "ch", "hh"))

PHONES: Final = tuple(phone for group in GROUPS for phone in group)
PAUSE: Final = PHONES.index("pau")

_NUMBER: Final = {phone: number for number, phone in enumerate(PHONES)}
_CLASS: Final = {phone: index for index, group in enumerate(GROUPS) for phone in group}
_BLEND: Final[npt.NDArray[np.float64]] = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0


def phone_classes(phones: Sequence[tuple[str, int]], frames: int) -> npt.NDArray[np.intp]:
    """The class of each frame, shape (frames,); unknown phones count as silence.

    ``phones`` are names with the frame they end before, as
    :attr:`~ringtrue.voices.flite.Parameters.phones` gives them.
    """
    classes = np.full(frames, SILENCE, np.intp)
    start = 0
    for name, end in phones:
        classes[start:end] = _CLASS.get(name, SILENCE)
        start = max(start, end)
    return classes


def phone_numbers(phones: Sequence[tuple[str, int]], frames: int) -> npt.NDArray[np.intp]:
    """Which of :data:`PHONES` each frame belongs to, shape (frames,); unknown ones are pauses."""
    numbers = np.full(frames, PAUSE, np.intp)
    start = 0
    for name, end in phones:
        numbers[start:end] = _NUMBER.get(name, PAUSE)
        start = max(start, end)
    return numbers


def voiceless(phones: Sequence[tuple[str, int]], frames: int) -> npt.NDArray[np.bool_]:
    """Which frames belong to :data:`VOICELESS` phones, shape (frames,)."""
    found = np.zeros(frames, np.bool_)
    start = 0
    for name, end in phones:
        found[start:end] = name in VOICELESS
        start = max(start, end)
    return found


def class_weights(phones: Sequence[tuple[str, int]], frames: int) -> npt.NDArray[np.float64]:
    """How much each frame belongs to each class, shape (frames, CLASSES); rows sum to 1.

    Blended over 25 ms, so that what differs by class does not jump at phone boundaries.
    """
    hard = np.eye(CLASSES)[phone_classes(phones, frames)]
    reach = len(_BLEND) // 2
    padded = np.pad(hard, ((reach, reach), (0, 0)), mode="edge")
    weights = np.zeros_like(hard)
    for shift, share in enumerate(_BLEND):
        weights += share * padded[shift : shift + frames]
    return weights
