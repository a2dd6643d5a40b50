"""What a loudspeaker and the room it plays into leave in a recording of a recording.

A small loudspeaker gives no bass, resonates and distorts; the room between it and the microphone
smears every onset, its noise lies over that of the first recording, and both microphones colour
the whole. None of it shows in one number, so the traits are many and a model weighs them: the
noise's level in each band, how fast sound dies away, the bass, and what
:mod:`ringtrue.voices.enrolment.cues` measures of the voice's excitation and movement.

All blocking, on mono samples at 16 kHz, shape ``(n,)``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.enrolment.acoustics import channel
from ringtrue.voices.enrolment.cues import NAMES, cues

RealArray = npt.NDArray[np.float64]

_FLOORS: Final = 20

TRAITS: Final = (*(f"noise in band {n}" for n in range(_FLOORS)), "decay", "bass", *NAMES)
"""What each number of :func:`playback` is."""


def playback(samples: npt.NDArray[np.float32]) -> RealArray | None:
    """The traits named in :data:`TRAITS`, shape ``(len(TRAITS),)``, all finite.

    None where under 0.3 s of it is voiced. Blocking: some 80 ms of CPU for 10 s.
    """
    way, voice = channel(samples), cues(samples)
    if way is None or voice is None:
        return None
    return np.concatenate([way.floor, [way.decay, way.bass], voice])
