"""The exception tree of ``ringtrue.voices.consent``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── ConsentError               a consent that can't be made, read or used
        ├── RecordError            bytes or values that are no consent or withdrawal
        ├── SignatureError         signed by an unknown key, or not over this record
        └── ChallengeError         a challenge that can't be issued or redeemed; has a ``reason``
"""

from __future__ import annotations

from enum import StrEnum

from ringtrue.streaming.errors import RingtrueError


class ConsentError(RingtrueError):
    """A consent can't be made, read or used."""


class RecordError(ConsentError):
    """What was given is no consent or withdrawal."""


class SignatureError(ConsentError):
    """The signature is by an unknown key, or not over this record."""


class ChallengeRefusal(StrEnum):
    """Why a challenge was refused."""

    MALFORMED = "malformed"
    """The token can't be one of ours."""

    UNKNOWN = "unknown"
    """No such challenge for this tenant, or it was forgotten after it expired."""

    USED = "used"
    """Redeemed before."""

    EXPIRED = "expired"
    """Its time is over."""

    MISMATCH = "mismatch"
    """Issued for another name or purpose."""

    TOO_MANY = "too_many"
    """The tenant has too many outstanding."""


class ChallengeError(ConsentError):
    """A challenge can't be issued or redeemed."""

    def __init__(self, reason: ChallengeRefusal, message: str) -> None:
        """``reason`` is for programs, ``message`` for people."""
        super().__init__(message)
        self.reason = reason
