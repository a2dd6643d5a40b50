"""Keys told of by INFO: ``application/dtmf-relay`` and ``application/dtmf``.

Neither has a specification of its own; both are the legacy usage of RFC 6086 §9, as gateways and
telephones send it. An INFO of any other kind is no request of ours to serve.
"""

from __future__ import annotations

import re
from typing import Final

from ringtrue.telephony.sip.message import Request

RELAY: Final = "application/dtmf-relay"
PLAIN: Final = "application/dtmf"
ACCEPT: Final = f"{RELAY}, {PLAIN}"

_SIGNAL: Final = re.compile(rb"^[ \t]*signal[ \t]*=[ \t]*([^\s;]{1,2})[ \t;]*\r?$", re.I | re.M)
_KEYS: Final = "0123456789*#ABCD"
"""By event code (RFC 4733 §3.2), which some send for the last six."""

MAX_BODY: Final = 256


def key_told(request: Request) -> str | None:
    """The key, one of ``0-9*#A-D``; ``""`` where the body names none.

    None where the body is of another type. Never raises.
    """
    kind, body = request.content_type, request.body[:MAX_BODY]
    if not body:
        return ""
    if kind == PLAIN:
        text = body.strip()
    elif kind == RELAY:
        found = _SIGNAL.search(body)
        text = found[1] if found is not None else b""
    else:
        return None
    signal = text.decode("ascii", "replace").upper()
    if signal in ("10", "11", "12", "13", "14", "15"):
        return _KEYS[int(signal)]
    return signal if len(signal) == 1 and signal in _KEYS else ""
