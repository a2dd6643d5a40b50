"""Searches clips that carry no mark, or another key's: how often does a bound mislead?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from watermark_attacks import Audio, cases
from watermark_corpus import SPEAKERS, say
from watermark_hosts import crops, marked, token_of
from watermark_kept import Kept

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.tracking import Follower, Pilot, Segments

CLIP_SECONDS: Final = 1
LEVELS: Final = range(1, 7)
CASES: Final = ("nothing", "G.711 µ-law", "Opus 12k", "AMR 12.2", "caller over it, 0 dB")


def null(count: int, sources: dict[str, Audio], kept: Kept, until: float) -> dict[str, Any]:
    """Search clips until there are ``count``, or it is ``until`` (monotonic).

    Every 300 clips have a key of their own; no two of them are the same. What is ``kept``
    is gone on with.
    """
    result: dict[str, Any] = {
        "rounds": 0,
        "clips": 0,
        "smallest": 1.0,
        "below": {str(k): 0 for k in LEVELS},
    }
    if kept.rows:
        result = kept.rows[0]
    heard = list(_attacked(sources))
    follower = Follower()
    while result["clips"] < count and time.monotonic() < until:
        rng = np.random.default_rng([7, result["rounds"]])
        pilot = Pilot(MarkKey(rng.bytes(32)).detection)
        for host, other in heard:
            for crop in crops(host, other, CLIP_SECONDS, 5, seed=int(rng.integers(2**31))):
                carrier = whitened(crop)
                course = follower.follow(pilot, Segments(carrier, half_a_chip_on(carrier)))
                bound = min(1.0, math.exp(-float(course.evidence.max(initial=0.0))))
                result["clips"] += 1
                result["smallest"] = min(result["smallest"], bound)
                for k in LEVELS:
                    result["below"][str(k)] += bound <= 10.0**-k
        result["rounds"] += 1
        kept.keep([result])
        say(f"null: {result['clips']} of {count}, smallest bound {result['smallest']:.1e}")
    return result


def _attacked(sources: dict[str, Audio]) -> Iterator[tuple[Audio, Audio]]:
    """Speech, and what telephony leaves of it, unmarked and with a mark of the bench's key."""
    for case in cases(sources[SPEAKERS[1]]):
        if case.name in CASES:
            for number, host in enumerate(sources.values()):
                yield host, case.attack(host)
                yield host, case.attack(marked(host, token_of(number)))


def null_table(result: dict[str, Any]) -> str:
    """In Markdown."""
    lines = ["| bound at or below | allowed share | share of clips |", "|---|---|---|"]
    clips = result["clips"]
    for k in LEVELS:
        share = result["below"][str(k)] / max(1, clips)
        lines.append(f"| 1e-{k} | {10.0**-k:.4%} | {share:.4%} |")
    lines.append("")
    lines.append(f"{clips} clips; the smallest bound was {result['smallest']:.1e}.")
    return "\n".join(lines)
