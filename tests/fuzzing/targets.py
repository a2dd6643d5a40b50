"""What hostile bytes may reach, each as a function of bytes that raises nothing undocumented.

A target takes what the network can send and swallows only the exceptions its parser's docstring
names. Whatever else comes out is a defect. :mod:`fuzzing.run` mutates the seeds under coverage
guidance; ``tests/test_fuzzing.py`` replays seeds, past crashes and some seeded mutations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuzzing import media, signalling, streams, web


@dataclass(frozen=True)
class Target:
    """One parser or state machine, and valid input to begin from."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    allowed: tuple[type[Exception], ...] = ()
    """What its documentation says it raises."""

    def feed(self, data: bytes) -> None:
        """Raises what it shouldn't have raised."""
        with contextlib.suppress(*self.allowed):
            self.run(data)


TARGETS: dict[str, Target] = {
    "sip_message": Target(signalling.message, signalling.MESSAGES, (signalling.SipParseError,)),
    "sip_stream": Target(signalling.stream, signalling.STREAMS, (signalling.SipParseError,)),
    "sip_headers": Target(signalling.headers, signalling.HEADERS),
    "sip_agent": Target(signalling.agent, signalling.CALLS),
    "sdp": Target(
        signalling.description,
        signalling.DESCRIPTIONS,
        (signalling.SdpError, signalling.NotAcceptableError),
    ),
    "rtp_packet": Target(media.packet, media.PACKETS, (media.RtpError,)),
    "rtcp": Target(media.reports, media.REPORTS, (media.RtpError,)),
    "telephone_event": Target(media.event, media.EVENTS, (media.RtpError,)),
    "rtp_stream": Target(media.call, media.CALLS),
    "stun_guard": Target(web.datagrams, web.DATAGRAMS),
    "twilio": Target(web.twilio, web.TWILIO, (web.TwilioProtocolError,)),
    "page": Target(web.page, web.PAGE, (web.PageMessageError,)),
    "carriers": Target(streams.carriers, streams.CARRIERS, (streams.StreamError,)),
    "callback": Target(streams.callback, streams.CALLBACKS, (streams.CallbackError,)),
    "signed": Target(streams.signed, streams.SIGNED),
    "access_token": Target(streams.access, streams.ACCESS, (streams.TokenError,)),
    "trickle": Target(streams.fragment, streams.FRAGMENTS, (streams.FragmentError,)),
}
