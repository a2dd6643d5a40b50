"""Did one person speak, and the same one in both recordings?"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.voices.encoder.embeddings import Embedding, centroid, similarity
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.likeness import shipped

SPACE: Final = shipped()
"""Where statement and body are compared."""

THRESHOLD: Final = 0.40
"""Likeness of statement and body, at least; see :data:`COSINE`."""

COSINE: Final = 0.74
"""Plain cosine between statement and body, at least. Who is alike by one measure is not always by
the other, so both have to be reached: 6 % of one person's pairs fall short, of people at home with
short takes for the most part, and 0.3 % of strangers' don't, none compared by what was learnt of
them (``scripts/fit_likeness.py``)."""

WITHIN: Final = 0.74
"""Cosine between a stretch of the body and the rest of it: 0.76 and more for one speaker, under
0.72 for two in 95 of 100 cases."""

STRETCH: Final = 4
"""Windows in a stretch: 3.9 s of speech."""


def check(evidence: Evidence) -> Finding:
    """Refuse another speaker in the statement than in the body, or two within the body.

    The score is the likeness that fell short of its bound, that of statement and speech where
    both are enough.
    """
    if not len(evidence.statement_windows) or not len(evidence.speech_windows):
        message = "there is too little speech to tell the speaker"
        return Finding(Check.SPEAKER, False, 0.0, THRESHOLD, message)
    across = SPACE(evidence.statement_embedding, evidence.speech_embedding)
    within = consistency(evidence.speech_windows)
    if across < THRESHOLD:
        message = (
            f"the statement and the speech don't sound like one person (likeness {across:.2f}; at "
            f"least {THRESHOLD:.2f} is needed)"
        )
        return Finding(Check.SPEAKER, False, across, THRESHOLD, message)
    plain = similarity(evidence.statement_embedding, evidence.speech_embedding)
    if plain < COSINE:
        message = (
            f"the statement and the speech don't sound like one person (cosine {plain:.2f}; at "
            f"least {COSINE:.2f} is needed)"
        )
        return Finding(Check.SPEAKER, False, plain, COSINE, message)
    if within < WITHIN:
        message = (
            f"the speech sounds like more than one person (likeness {within:.2f}; at least "
            f"{WITHIN:.2f} is needed)"
        )
        return Finding(Check.SPEAKER, False, within, WITHIN, message)
    message = f"one speaker in both recordings (likeness {across:.2f})"
    return Finding(Check.SPEAKER, True, across, THRESHOLD, message)


def consistency(windows: Embedding) -> float:
    """The least cosine between a part of the windows and the others; 1 for too few to tell.

    Parts are every stretch of :data:`STRETCH` windows, for somebody who speaks in between, and
    every beginning, for somebody who takes over. ``windows`` has shape ``(windows, 256)``.
    """
    count = len(windows)
    if count < 2 * STRETCH:
        parts = [range(count // 2)] if count > 1 else []
    else:
        parts = [range(at, at + STRETCH) for at in range(count - STRETCH + 1)]
        parts += [range(end) for end in range(STRETCH + 1, count - STRETCH + 1)]
    found = [1.0]
    for part in parts:
        inside = np.zeros(count, bool)
        inside[part] = True
        found.append(similarity(centroid(windows[inside]), centroid(windows[~inside])))
    return min(found)
