"""What calls ask of the user agent that owns them."""

from __future__ import annotations

import random
from typing import Final, Protocol

from ringtrue.telephony.sip.core import Core
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.events import Event
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.transport import Hop

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY, REFER"
"""REFER is taken inside calls, and refused unless the owner's rules name the place."""

EXTENSIONS: Final = "100rel, timer, replaces"
"""Option tags of what we support (RFC 3262, RFC 4028, RFC 3891)."""

SDP: Final = "application/sdp"


class Usage(Protocol):
    """A call in any phase, as the user agent's table holds it."""

    def matches(self, request: Request) -> bool:
        """Whether an incoming request with our tag belongs to this call."""
        ...

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """Answer a request inside the dialog."""
        ...

    def receive_ack(self, request: Request, now: float) -> None:
        """Take an ACK to one of our 2xx."""
        ...

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due."""
        ...

    def handle_timer(self, now: float) -> None:
        """Fire what is due."""
        ...


class Context(Protocol):
    """The user agent, as its calls see it."""

    core: Core
    random: random.Random

    def emit(self, event: Event) -> None:
        """Queue an event for the owner."""
        ...

    def adopt(self, handle: str, usage: Usage) -> None:
        """Put ``usage`` in the table under ``handle``."""
        ...

    def release(self, handle: str) -> None:
        """Take the call out of the table."""
        ...

    def contact(self, hop: Hop, user: str | None, *, secure: bool = False) -> str:
        """Our Contact toward ``hop``, a ``sips`` one where ``secure`` (§8.1.1.8)."""
        ...

    def contact_in(self, dialog: Dialog, user: str | None, hop: Hop | None = None) -> str:
        """Our Contact in a dialog, toward ``hop`` or else where the dialog's requests come from."""
        ...

    def hop_for(self, dialog: Dialog) -> Hop:
        """Where a dialog's request goes: its open stream, else its next hop."""
        ...

    def response(
        self,
        request: Request,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        extra: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> Response:
        """A response with our Server header, and Content-Type where it has a body."""
        ...


class Discard:
    """A client user that wants no answer."""

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """Nothing."""

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """Nothing."""
