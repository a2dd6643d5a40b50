"""What server and page tell each other over the data channel ``ringtrue``: small JSON objects.

To the page, each with ``type``: ``state`` (answered, speaking, listening, ended …), ``partial``
and ``final`` (what the caller said), ``agent`` (what the caller has heard the agent say so far
in this turn), ``latency`` (one turn's figures). From the page: ``dtmf`` and ``hangup``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ringtrue.telephony.webrtc.errors import WebRtcError

CHANNEL: Final = "ringtrue"
MAX_MESSAGE: Final = 512
"""Characters in a message from the page."""

DIGITS: Final = frozenset("0123456789*#ABCD")

PageEvent: TypeAlias = Mapping[str, Any]


class PageMessageError(WebRtcError):
    """A message from the page that means nothing here."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key of the page's keypad."""

    digit: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller pressed "Hang up", or the page is going away."""


def parse(message: str | bytes) -> KeyPressed | HungUp:
    """Read one message from the page. Raises :class:`PageMessageError`, and nothing else."""
    if not isinstance(message, str) or len(message) > MAX_MESSAGE:
        raise PageMessageError(f"allowed: text of up to {MAX_MESSAGE} characters")
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise PageMessageError("not JSON") from error
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "hangup":
        return HungUp()
    if kind == "dtmf":
        digit = value.get("digit")
        if isinstance(digit, str) and digit in DIGITS:
            return KeyPressed(digit)
        raise PageMessageError("digit is none; allowed: one of 0-9*#A-D")
    raise PageMessageError("type is neither 'dtmf' nor 'hangup'")


def state(name: str, *, reason: str | None = None) -> PageEvent:
    """Where the call is: ``answered``, ``listening``, ``thinking``, ``speaking`` or ``ended``."""
    return {"type": "state", "state": name} | ({} if reason is None else {"reason": reason})


def partial(text: str) -> PageEvent:
    """What the recognizer makes of the caller's words so far; the next one replaces it."""
    return {"type": "partial", "text": text}


def final(text: str) -> PageEvent:
    """What the caller said."""
    return {"type": "final", "text": text}


def agent(text: str, *, turn: int, interrupted: bool = False) -> PageEvent:
    """All that has been heard of the agent's words in ``turn`` so far."""
    return {"type": "agent", "text": text, "turn": turn, "interrupted": interrupted}


def latency(turn: int, turn_ms: float, stages: Mapping[str, float] | None = None) -> PageEvent:
    """One turn's latency and its stages, in milliseconds."""
    return {
        "type": "latency",
        "turn": turn,
        "ms": round(turn_ms),
        "stages": {name: round(value) for name, value in (stages or {}).items()},
    }
