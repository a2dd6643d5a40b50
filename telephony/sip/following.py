"""Calls as somebody sees them who only passes their messages on (RFC 3261 §12).

Enough is kept of each to end it in its owner's place: tags, numbers, route, target, and the flow
it runs on. No credentials: those are the owner's.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ringtrue.telephony.sip.dialog import Dialog, remote_target
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.peek import Peek
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

MAX_DIALOGS: Final = 8
"""Dialogs of one Call-ID that are followed: forks of a call we place; further ones are not."""

_CHANGES: Final = ("INVITE", "UPDATE")
_FOLLOWED: Final = (*_CHANGES, "BYE")

Tags = tuple[str, str]
"""Ours and theirs."""


@dataclass(slots=True)
class Asked:
    """An INVITE from outside that has no final answer yet."""

    data: bytes
    request: Request
    source: Hop


@dataclass(slots=True)
class Placed:
    """An INVITE of ours that has no final answer yet."""

    request: Request
    hop: Hop
    proceeding: bool = False
    """A provisional response came, so it may be cancelled (§9.1)."""


@dataclass(slots=True, eq=False)
class Followed:
    """One Call-ID. ``owner`` names who works on it."""

    call_id: str
    owner: int
    touched: float
    asked: Asked | None = None
    placed: Placed | None = None
    dialogs: dict[Tags, Dialog] = field(default_factory=dict)
    moved: bool = False
    """It was given to a second owner because the first refused it."""

    _numbers: dict[str, int] = field(default_factory=dict)
    """Highest CSeq of ours by our tag."""

    _leaving: set[Tags] = field(default_factory=set)
    """Dialogs that our side sent BYE in."""

    _targets: dict[tuple[Tags, int], SipUri] = field(default_factory=dict)
    """Where the far end wants requests once its change is accepted."""

    @property
    def lasting(self) -> bool:
        """Whether there is something to end, should the owner be gone."""
        return bool(self.dialogs) or self.asked is not None or self.placed is not None

    @property
    def leaving(self) -> bool:
        """Whether nothing but answers to BYE is waited for."""
        return self.asked is None and self.placed is None and self._leaving >= set(self.dialogs)

    def received(self, seen: Peek, data: bytes, source: Hop) -> None:
        """Take a message from outside. Never raises."""
        if seen.status is not None and seen.status < 200:
            if seen.method == "INVITE" and self.placed is not None:
                self.placed.proceeding = True
            return
        if seen.method not in _FOLLOWED:
            return
        with suppress(SipParseError):
            message = parse_message(data)
            if isinstance(message, Request):
                self._request_in(message, data, source)
            else:
                self._response_in(message, source)

    def sent(self, seen: Peek, data: bytes, hop: Hop) -> None:
        """Take a message of the owner's to the outside. Never raises."""
        if seen.method == "ACK" or (
            seen.status is not None and (seen.status < 200 or seen.method not in _FOLLOWED)
        ):
            return
        with suppress(SipParseError):
            message = parse_message(data)
            if isinstance(message, Request):
                self._request_out(message, hop)
            else:
                self._response_out(message)

    def ending(self) -> list[Dialog]:
        """The established dialogs, ready for another request of ours."""
        for (ours, _), dialog in self.dialogs.items():
            dialog.local_seq = max(dialog.local_seq, self._numbers.get(ours, 0))
        return list(self.dialogs.values())

    # -- what goes by ------------------------------------------------------------------------

    def _request_in(self, request: Request, data: bytes, source: Hop) -> None:
        if request.to.tag is None:
            if request.method == "INVITE":
                self.asked = Asked(data, request, source)
            return
        tags = (request.to.tag, request.from_.tag or "")
        dialog = self.dialogs.get(tags)
        if request.method == "BYE":
            self.dialogs.pop(tags, None)
        elif dialog is not None:
            dialog.flow = source
            dialog.remote_seq = request.cseq
            self._targets = {k: v for k, v in self._targets.items() if k[0] != tags}
            self._targets[tags, request.cseq] = remote_target(request)

    def _response_in(self, response: Response, source: Hop) -> None:
        tags = (response.from_.tag or "", response.to.tag or "")
        if response.cseq_method == "BYE":
            self.dialogs.pop(tags, None)
            return
        placed = self.placed
        own = placed is not None and placed.request.cseq == response.cseq
        if not response.success:
            if own and response.cseq_method == "INVITE":
                self.placed = None
            return
        dialog = self.dialogs.get(tags)
        if dialog is not None:
            dialog.flow = source
            dialog.target = remote_target(response)
        elif placed is not None and own and response.cseq_method == "INVITE":
            self._add(tags, Dialog.from_response(placed.request, response, source))

    def _request_out(self, request: Request, hop: Hop) -> None:
        ours = request.from_.tag or ""
        self._numbers[ours] = max(self._numbers.get(ours, 0), request.cseq)
        if request.method == "INVITE" and request.to.tag is None:
            self.placed = Placed(request, hop)
        elif request.method == "BYE":
            self._leaving.add((ours, request.to.tag or ""))

    def _response_out(self, response: Response) -> None:
        tags = (response.to.tag or "", response.from_.tag or "")
        asked = self.asked
        own = asked is not None and asked.request.cseq == response.cseq
        if response.cseq_method == "INVITE" and asked is not None and own:
            if response.success and tags not in self.dialogs:
                self._add(tags, Dialog.from_request(asked.request, tags[0], asked.source))
            self.asked = None
            return
        target = self._targets.pop((tags, response.cseq), None)
        dialog = self.dialogs.get(tags)
        if dialog is not None and target is not None and response.success:
            dialog.target = target

    def _add(self, tags: Tags, dialog: Dialog) -> None:
        if len(self.dialogs) < MAX_DIALOGS:
            self.dialogs[tags] = dialog
        if self.placed is not None and tags[0] == self.placed.request.from_.tag:
            self.placed.proceeding = True
