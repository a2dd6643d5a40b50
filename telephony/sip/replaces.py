"""Replaces: a new call that takes the place of one there is (RFC 3891)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import NameAddr, param, parse_call_id, parse_params
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.uri import SipUri, Uri

OPTION = "replaces"
"""The extension's tag in Supported and Require."""

NO_TAG = "0"
"""What stands for the tag of a far end that has none (§6.1)."""


@dataclass(frozen=True, slots=True)
class Replaces:
    """Which dialog is to be replaced, named as whoever gets the header knows it."""

    call_id: str
    to_tag: str
    """The tag of who gets it."""

    from_tag: str
    early_only: bool = False
    """Only while it has not been answered."""

    def __str__(self) -> str:
        """The header's value."""
        flag = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{flag}"


def parse_replaces(text: str) -> Replaces:
    """Read the header's value. Raises :class:`SipParseError`."""
    call_id, semicolon, rest = text.partition(";")
    params = parse_params(semicolon + rest)
    to_tag, from_tag = param(params, "to-tag"), param(params, "from-tag")
    if not to_tag or not from_tag:
        raise SipParseError(f"Replaces needs to-tag and from-tag: {text[:80]!r}")
    early = param(params, "early-only") is not None
    return Replaces(parse_call_id(call_id.strip()), to_tag, from_tag, early)


def replaces_of(request: Request) -> Replaces | None:
    """What an INVITE is to replace; None where it says nothing of it.

    Raises :class:`SipParseError` (400) for more than one, for one in another request, and beside
    Join (§3, RFC 3911 §4).
    """
    values = request.headers.get_all("replaces")
    if not values:
        return None
    if len(values) > 1 or request.method != "INVITE" or "join" in request.headers:
        raise SipParseError("Replaces may stand once, in an INVITE, without Join")
    return parse_replaces(values[0])


def replacing(dialog: Dialog) -> NameAddr:
    """Refer-To for somebody who shall take our place in ``dialog`` (RFC 5589 §7.3): the far end's
    own Contact, and which dialog its phone knows."""
    ours, theirs = dialog.local.tag or NO_TAG, dialog.remote.tag or NO_TAG
    value = quote(str(Replaces(dialog.call_id, theirs, ours)), safe="")
    bare = dialog.target.bare()
    where = SipUri(
        bare.host,
        bare.port,
        bare.user,
        params=bare.params,
        headers=f"Replaces={value}",
        scheme=bare.scheme,
    )
    return NameAddr(where)


def replaced_by(target: Uri) -> str | None:
    """The Replaces that a Refer-To asks us to send; None where it asks for none.

    Raises :class:`SipParseError` for one that can't be read.
    """
    headers = target.headers if isinstance(target, SipUri) else None
    for field in (headers or "").split("&"):
        name, _, value = field.partition("=")
        if unquote(name).strip().lower() == "replaces":
            return str(parse_replaces(unquote(value, errors="replace")))
    return None
