"""Session timers (RFC 4028): a call whose far end is gone ends by itself.

One side refreshes the session at half its interval; the other ends the call where no refresh
came. Headers that can't be read count as absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.message import Message, Request, Response

TIMER: Final = "timer"
"""The option tag."""

FLOOR: Final = 90
"""Shortest interval in seconds that anyone may ask for (§5)."""

GOODBYE: Final = 32.0
"""Seconds before the end at which the side that doesn't refresh says BYE, at most (§10)."""

_DELTA: Final = re.compile(r"\s*([0-9]{1,9})\s*(?:;(.*))?\Z", re.DOTALL)
_REFRESHER: Final = re.compile(r"(?:\A|;)\s*refresher\s*=\s*(uac|uas)\s*(?:;|\Z)", re.IGNORECASE)

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """What a Session-Expires header says."""

    seconds: int
    refresher: str | None
    """``uac`` or ``uas``, of the request it stands in or answers."""


@dataclass(slots=True)
class SessionTimer:
    """The timer of one session, since its last refresh."""

    seconds: int
    ours: bool
    """We refresh."""

    refresh_at: float
    expires_at: float

    @classmethod
    def started(cls, seconds: int, *, ours: bool, now: float) -> SessionTimer:
        """A session of ``seconds`` agreed on or refreshed at ``now``."""
        early = min(GOODBYE, seconds / 3)
        return cls(seconds, ours, now + seconds / 2, now + seconds - early)

    def due(self) -> float:
        """When the owner has to act."""
        return min(self.refresh_at, self.expires_at) if self.ours else self.expires_at


def interval_of(message: Message) -> Interval | None:
    """Its Session-Expires; None where absent or unreadable."""
    match = _DELTA.match(message.headers.get("session-expires") or "")
    if match is None:
        return None
    refresher = _REFRESHER.search(match[2] or "")
    return Interval(int(match[1]), refresher[1].lower() if refresher else None)


def least_of(message: Message) -> int:
    """Its Min-SE in seconds; :data:`FLOOR` where absent, unreadable or less."""
    match = _DELTA.match(message.headers.get("min-se") or "")
    return max(FLOOR, int(match[1])) if match else FLOOR


def knows_timers(message: Message) -> bool:
    """Whether its sender supports session timers."""
    return TIMER in (tag.lower() for tag in message.tokens("supported"))


def request_lines(seconds: int, least: int, *, refresher: str | None = None) -> Lines:
    """What a request says that asks for a timer; ``refresher`` as it was agreed before."""
    value = f"{seconds};refresher={refresher}" if refresher else str(seconds)
    return (("session-expires", value), ("min-se", str(max(FLOOR, least))))


def too_short(request: Request, least: int) -> Lines | None:
    """What the 422 to ``request`` says whose interval is below ``least`` seconds (§9).

    None where it isn't, or where its sender could not do anything about it: a proxy asked.
    """
    asked = interval_of(request)
    if asked is None or asked.seconds >= least or not knows_timers(request):
        return None
    return (("min-se", str(least)),)


def answered(request: Request, longest: int, now: float) -> tuple[Lines, SessionTimer] | None:
    """What our 2xx to ``request`` says, and the timer that then runs (§9, Table 2).

    None where nobody asked for one. The interval is the one asked for, at most ``longest`` but
    never below the request's Min-SE. Where the caller leaves it open, it refreshes if it can.
    """
    asked = interval_of(request)
    if asked is None:
        return None
    seconds = max(min(asked.seconds, longest), least_of(request))
    able = knows_timers(request)
    refresher = (asked.refresher or "uac") if able else "uas"
    lines: Lines = (("session-expires", f"{seconds};refresher={refresher}"),)
    if refresher == "uac":
        lines = (("require", TIMER), *lines)
    return lines, SessionTimer.started(seconds, ours=refresher == "uas", now=now)


def agreed(response: Response, now: float) -> SessionTimer | None:
    """The timer that a 2xx to our request starts; None: the session has none (§7.2)."""
    said = interval_of(response)
    if said is None:
        return None
    seconds = max(said.seconds, FLOOR)
    return SessionTimer.started(seconds, ours=said.refresher != "uas", now=now)
