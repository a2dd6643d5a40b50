"""Why a call is ended, as the far end is told: the Reason header (RFC 3326)."""

from __future__ import annotations

from typing import Final

from ringtrue.streaming.ports import EndReason

_CAUSES: Final = {
    EndReason.AGENT_HUNG_UP: ("Q.850", 16, "Normal call clearing"),
    EndReason.TRANSFERRED: ("SIP", 200, "Call transferred"),
    EndReason.TRANSFER_REQUESTED: ("Q.850", 31, "Normal, unspecified"),
    EndReason.REJECTED: ("SIP", 603, "Decline"),
    EndReason.CANCELLED: ("SIP", 487, "Request terminated"),
    EndReason.FAR_END_LOST: ("SIP", 408, "Nothing heard from the far end"),
    EndReason.MAX_DURATION: ("Q.850", 31, "Longest duration reached"),
    EndReason.SHUTDOWN: ("Q.850", 41, "Temporary failure"),
    EndReason.ERROR: ("Q.850", 41, "Temporary failure"),
}


def reason_of(reason: EndReason) -> str | None:
    """The header's value for a BYE of ours; None where there is nothing to tell."""
    cause = _CAUSES.get(reason)
    if cause is None:
        return None
    protocol, number, text = cause
    return f'{protocol};cause={number};text="{text}"'
