"""Which worker a web request is for.

What lives in one process's memory has its place there: enrolments and searches with the first
worker; calls, placed ones too, and tokens with the worker that made them, which their marks name.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from typing import Final

from ringtrue.agent.workers.door import Seen
from ringtrue.agent.workers.marks import slot_in

PRIMARY: Final = 0
"""The slot of the worker that has whatever there is once."""

_ACCESS: Final = re.compile(rb"rtw1\.[A-Za-z0-9_-]{1,900}\.[A-Za-z0-9_-]{20,80}")
"""A signed token: any worker can read it, one must see that it is used once."""

_NONCE: Final = re.compile(rb'nonce="[^"\r\n]{1,200}"')
"""Of a signed websocket request, which is believed once."""

_ORDER: Final = re.compile(rb"\r\nidempotency-key:[ \t]*([^\r\n]{1,200})", re.IGNORECASE)
"""Of a call to be placed: who asks for it again must come to where it was placed."""

_CARRIERS: Final = ("twilio", "telnyx", "plivo", "exotel", "vonage")
_ANYBODYS: Final = frozenset({"/", "/enrol", "/verify", *(f"/{name}/voice" for name in _CARRIERS)})


class Target(Enum):
    """Whose a request is, where it is no certain worker's."""

    ANY = "any"
    """The one with the fewest calls."""


def target_of(seen: Seen, count: int) -> int | Target:
    """The slot a request is for, of ``count``, or :attr:`Target.ANY`."""
    path = seen.path
    if path == "/v1/calls" and seen.method == "POST":
        order = _ORDER.search(seen.data.partition(b"\r\n\r\n")[0])
        return Target.ANY if order is None else _spread(order[1].rstrip(), count)
    if path == "/v1" or (path.startswith("/v1/") and not path.startswith("/v1/calls/")):
        return PRIMARY
    marked = slot_in(path)
    if marked is not None and marked < count:
        return marked
    if path.startswith("/webrtc/"):
        token = _ACCESS.search(seen.data)
        return PRIMARY if token is None else _spread(token[0], count)
    if path == "/genesys/audiohook":
        nonce = _NONCE.search(seen.data)
        return Target.ANY if nonce is None else _spread(nonce[0], count)
    if path in _ANYBODYS or path.startswith("/static/"):
        return Target.ANY
    return PRIMARY


def _spread(token: bytes, count: int) -> int:
    """A slot by what can't be chosen: the same for the same token, evenly for many."""
    return hashlib.sha256(token).digest()[0] % count
