"""Which call an INVITE with Replaces is for, and whether it may have it (RFC 3891 §3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from ringtrue.telephony.sip.call import Call
from ringtrue.telephony.sip.context import Usage
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.outgoing import OutgoingCall
from ringtrue.telephony.sip.replaces import NO_TAG, Replaces, replaces_of
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uas import Refusal

MAX_ENDED: Final = 256
"""Calls remembered after their end: who wants to replace one is told so, not that there never
was any."""


class Takeovers:
    """The calls of one user agent, as somebody may want to replace them."""

    def __init__(self, calls: Mapping[str, Usage]) -> None:
        """``calls`` is the user agent's table: by our tag."""
        self._calls = calls
        self._ended: deque[tuple[str, str, str]] = deque(maxlen=MAX_ENDED)
        self.allowed = True
        """Whether calls may be replaced at all."""

    def ended(self, usage: Usage) -> None:
        """``usage`` is out of the table."""
        if isinstance(usage, Call):
            self._ended.append(_names(usage.dialog))

    def look(self, request: Request, source: Hop, *, known: bool) -> str | Refusal | None:
        """The handle of the call that ``request``, a new INVITE from ``source``, is to replace.

        ``known`` says that who sent it has shown who it is; everybody else may replace nothing but
        a call whose far end signals from the same host. Returns None where it is to replace none,
        and why it is refused where it may not: 400, 403, 481 where there is no such call, 486
        where it is answered already and only a ringing one was meant, 603 where it is over.
        """
        try:
            wanted = replaces_of(request)
        except SipParseError as error:
            return Refusal(error.status)
        if wanted is None:
            return None
        usage = self._calls.get(wanted.to_tag)
        if isinstance(usage, OutgoingCall) and usage.forks(wanted.call_id, wanted.from_tag):
            return wanted.to_tag if self.allowed and known else Refusal(403)
        if not isinstance(usage, Call) or not _means(wanted, _names(usage.dialog)):
            was = any(_means(wanted, names) for names in self._ended)
            return Refusal(603 if was else 481)
        if usage.ending:
            return Refusal(603)
        if not self.allowed or not (known or usage.dialog.flow.host == source.host):
            return Refusal(403)
        return Refusal(486) if wanted.early_only else wanted.to_tag


def _names(dialog: Dialog) -> tuple[str, str, str]:
    return dialog.call_id, dialog.local.tag or NO_TAG, dialog.remote.tag or NO_TAG


def _means(wanted: Replaces, names: tuple[str, str, str]) -> bool:
    return (wanted.call_id, wanted.to_tag, wanted.from_tag) == names
