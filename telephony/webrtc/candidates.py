"""Candidates that come one by one (trickle ICE): their SDP fragments, read strictly.

``application/trickle-ice-sdpfrag`` is RFC 8840 §9: attributes of the ICE generation, a pseudo
``m=`` section a stream with its ``a=mid``, candidates, and ``a=end-of-candidates``. All streams
share one transport here (BUNDLE, RFC 9143), so candidates of every section are that one's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.webrtc.errors import WebRtcError

MEDIA_TYPE: Final = "application/trickle-ice-sdpfrag"
MAX_FRAGMENT: Final = 16 * 1024
MAX_LINE: Final = 512
MAX_PORT: Final = 65535

_CANDIDATE: Final = re.compile(
    r"candidate:[0-9A-Za-z+/]{1,32} \d{1,5} \S{1,16} \d{1,10} \S{1,255} \d{1,5} typ \S{1,16}"
    r"(?: \S+ \S+)*"
)
"""RFC 8839 §5.1."""

_ICE_TEXT: Final = re.compile(r"[0-9A-Za-z+/]{4,256}")


class FragmentError(WebRtcError):
    """A fragment that can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one message adds."""

    ufrag: str | None
    """The ICE generation it belongs to; None where it doesn't say."""

    candidates: tuple[str, ...]
    """Without ``a=``: ``candidate:…``."""

    complete: bool
    """No more will come."""


def parse_fragment(text: str) -> Fragment:
    """Read a fragment. Raises :class:`FragmentError`, and nothing else."""
    if len(text) > MAX_FRAGMENT:
        raise FragmentError(f"fragment has {len(text)} characters; allowed: {MAX_FRAGMENT}")
    ufrags: set[str] = set()
    candidates: list[str] = []
    complete = False
    for line in text.splitlines():
        if len(line) > MAX_LINE:
            raise FragmentError(f"a line has {len(line)} characters; allowed: {MAX_LINE}")
        kind, _, value = line.partition("=")
        name, _, rest = value.partition(":")
        if kind == "a" and name == "ice-ufrag":
            if not _ICE_TEXT.fullmatch(rest):
                raise FragmentError("ice-ufrag is not 4 to 256 ice-chars (RFC 8839 §5.4)")
            ufrags.add(rest)
        elif kind == "a" and name == "candidate":
            if not _CANDIDATE.fullmatch(value) or int(value.split()[5]) > MAX_PORT:
                raise FragmentError("a candidate is not as in RFC 8839 §5.1")
            candidates.append(value)
        elif value == "end-of-candidates" and kind == "a":
            complete = True
        elif line.strip() and kind not in ("a", "m"):  # other attributes may be added later
            raise FragmentError("a line is neither an attribute nor a media line")
    if len(ufrags) > 1:
        raise FragmentError("ice-ufrag is given twice and differs; allowed: one generation")
    if not candidates and not complete:
        raise FragmentError("neither a candidate nor end-of-candidates is in it")
    return Fragment(ufrags.pop() if ufrags else None, tuple(candidates), complete)


def offered_ufrag(sdp: str) -> str | None:
    """The ICE generation of a description; None where it has none."""
    found = re.search(r"^a=ice-ufrag:([0-9A-Za-z+/]{4,256})\s*$", sdp, re.MULTILINE)
    return None if found is None else found[1]
