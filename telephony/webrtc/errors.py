"""The exception tree of ``ringtrue.telephony.webrtc``.

::

    RingtrueError
    └── WebRtcError
        ├── OfferError              the browser's offer can't be answered
        ├── CandidateError          candidates that can't be added
        ├── FragmentError           (candidates) an SDP fragment that can't be read
        ├── TokenError              (access) a token that gives no leave to call
        ├── PageMessageError        (events) a message from the page that means nothing
        └── UnsupportedAiortcError  the installed aiortc lacks what the guard needs
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class WebRtcError(RingtrueError):
    """Base of this package's errors."""


class OfferError(WebRtcError):
    """The offer can't be answered; the text says what is wrong with it."""


class CandidateError(WebRtcError):
    """Candidates can't be added; the text says why."""


class UnsupportedAiortcError(WebRtcError):
    """The installed aiortc or aioice is not built as this package expects."""
