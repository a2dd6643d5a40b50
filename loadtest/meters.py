"""What a caller's end measures besides the audio's own shape: speech that is owed.

Sans-IO: positions are samples of the call's recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ringtrue.loadtest.ear import Span

UNEXPLAINED_MS: Final = 1500
"""Silence of an agent who owes speech is a failure beyond this."""


def unexplained_silences(
    agent: Sequence[Span],
    caller: Sequence[Span],
    rate: int,
    *,
    begin: int,
    end: int,
    excused: Sequence[Span] = (),
    limit_ms: int = UNEXPLAINED_MS,
) -> list[Span]:
    """Silences longer than ``limit_ms`` in which the agent should have been heard.

    The agent owes speech from the answer (``begin``) until its greeting, from the end of each
    of ``caller`` (speech that expects an answer, in order) until its answer, and between two of
    its own utterances while the caller says nothing: who pauses that long has left the caller
    waiting. What follows its last utterance is the caller's own time to speak. ``end`` is where
    the call ended; ``excused`` are cut out of what is owed.
    """
    limit = limit_ms * rate // 1000
    opens = [begin, *(span.end for span in caller)]
    closes = [*(span.start for span in caller), end]
    found: list[Span] = []
    for start, stop in zip(opens, closes, strict=True):
        heard = [span for span in agent if span.end > start and span.start < stop]
        # With nothing heard at all the whole window was owed.
        edges = [start, *(edge for span in heard for edge in (span.start, span.end))]
        edges += [] if heard else [stop]
        for silence in (Span(a, b) for a, b in list(pairwise(edges))[::2] if b - a > limit):
            found += [part for part in _without(silence, excused) if len(part) > limit]
    return found


def _without(span: Span, excused: Sequence[Span]) -> list[Span]:
    """What is left of ``span``."""
    left = [span]
    for other in excused:
        left = [
            part
            for whole in left
            for part in (
                Span(whole.start, min(whole.end, other.start)),
                Span(max(whole.start, other.end), whole.end),
            )
            if part.end > part.start
        ]
    return left
