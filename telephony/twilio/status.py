"""What Twilio tells of a placed call: its status callbacks, read strictly.

Source: https://www.twilio.com/docs/voice/api/call-resource#statuscallback and
https://www.twilio.com/docs/voice/answering-machine-detection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.telephony.media_streams.wire import StreamError

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_WORD: Final = re.compile(r"[a-z_]{1,32}")


class CallStatus(StrEnum):
    """How far a call is, in Twilio's words."""

    QUEUED = "queued"
    INITIATED = "initiated"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"

    @property
    def over(self) -> bool:
        """Whether it is a last one."""
        return self in _OVER


_OVER: Final = frozenset(
    {
        CallStatus.COMPLETED,
        CallStatus.BUSY,
        CallStatus.FAILED,
        CallStatus.NO_ANSWER,
        CallStatus.CANCELED,
    }
)


class CallbackError(StreamError):
    """A callback that Twilio does not define; says which field and why."""


@dataclass(frozen=True, slots=True)
class CallUpdate:
    """One callback."""

    sid: str
    status: CallStatus | None
    """None in a verdict on who answered."""

    sequence: int | None = None
    """Running number of the call's callbacks, which may arrive in another order."""

    sip_status: int | None = None
    """Final status of the network's own signalling, where Twilio says."""

    answered_by: str | None = None
    """``human``, ``machine_start``, ``fax``, ``unknown`` …"""


def read_update(form: Mapping[str, str]) -> CallUpdate:
    """Read a callback's form. Raises :class:`CallbackError`, and nothing else."""
    sid = form.get("CallSid", "")
    if not re.fullmatch(r"CA[0-9a-fA-F]{32}", sid):
        raise CallbackError("CallSid is missing or no call's SID")
    status: CallStatus | None = None
    if (text := form.get("CallStatus")) is not None:
        try:
            status = CallStatus(text)
        except ValueError:
            known = ", ".join(CallStatus)
            raise CallbackError(f"CallStatus is {text[:20]!r}; allowed: {known}") from None
    answered_by = form.get("AnsweredBy") or None
    if answered_by is not None and not _WORD.fullmatch(answered_by):
        raise CallbackError("AnsweredBy is no word")
    if status is None and answered_by is None:
        raise CallbackError("neither CallStatus nor AnsweredBy is in it")
    return CallUpdate(
        sid, status, _number(form, "SequenceNumber"), _number(form, "SipResponseCode"), answered_by
    )


def _number(form: Mapping[str, str], key: str) -> int | None:
    text = form.get(key)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None
