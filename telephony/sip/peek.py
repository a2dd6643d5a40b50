"""What has to be known of a message to pass it on: read from its header lines, unchecked.

Reads with the parser's own line reader, so that whoever parses the message finds the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import MAX_HEADER_BYTES, read_lines, split_head

MAX_CALL_ID: Final = 512
"""Characters; a longer one is no key of any table."""

_TAG: Final = re.compile(r";\s*tag\s*=\s*([^\s;,>]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Peek:
    """One message, as far as it was looked at."""

    call_id: str
    method: str
    """Of a request its own, of a response that of its CSeq."""

    status: int | None = None
    """None: a request."""

    to_tag: str | None = None
    replaces: str | None = None
    """Call-ID of the call that a request takes the place of (RFC 3891)."""

    @property
    def begins_call(self) -> bool:
        """Whether it is an INVITE outside any dialog."""
        return self.status is None and self.method == "INVITE" and self.to_tag is None


def peek(data: bytes) -> Peek | None:
    """Look at one whole message; None where it has no Call-ID or can't be read."""
    parts = split_head(data.lstrip(b"\r\n"))
    if parts is None or len(parts[0]) > MAX_HEADER_BYTES:
        return None
    try:
        start, lines = read_lines(parts[0])
    except SipParseError:
        return None
    found: dict[str, str] = {}
    for name, value in lines:
        found.setdefault(name, value)
    call_id = found.get("call-id", "")
    words = start.split(" ", 2)
    if not 0 < len(call_id) <= MAX_CALL_ID or len(words) < 2:
        return None
    status: int | None = None
    method = words[0]
    if method.upper().startswith("SIP/"):
        if not (words[1].isascii() and words[1].isdecimal() and len(words[1]) == 3):
            return None
        status = int(words[1])
        method = found.get("cseq", "").rpartition(" ")[2].strip()
    tag = _TAG.search(found.get("to", ""))
    replaces = found.get("replaces")
    return Peek(
        call_id,
        method,
        status,
        None if tag is None else tag[1],
        None if replaces is None else replaces.partition(";")[0].strip(),
    )
