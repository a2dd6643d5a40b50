"""What is under way between the two ends of an established call."""

from __future__ import annotations

from dataclasses import dataclass

from ringtrue.telephony.sip.message import Response
from ringtrue.telephony.sip.server_transaction import ServerTransaction


@dataclass(slots=True)
class Unacknowledged:
    """A 2xx of ours that has no ACK yet; the user sends it again, on any transport."""

    transaction: ServerTransaction
    response: Response
    interval: float
    again: float
    deadline: float
    offered: bool
    """The 2xx carried the offer: the answer comes with the ACK."""


@dataclass(slots=True)
class Change:
    """A re-INVITE or UPDATE of ours that has no final response yet."""

    method: str
    offer: bytes
    after_glare: bool = False
    least: int | None = None
    """Session interval that a 422 asked for."""
