"""Checks of media: Opus's library, the echo canceller's, whether keys travel in clear."""

from __future__ import annotations

from typing import Final

from ringtrue.agent.findings import Check, CheckFunction, State
from ringtrue.config.settings import Settings
from ringtrue.streaming.echo.canceller import LIBRARY, echo_library_available
from ringtrue.telephony.codecs import OPUS
from ringtrue.telephony.codecs.opus_library import CodecUnavailableError, opus_library


def _opus(settings: Settings) -> Check:
    try:
        return Check("codec opus", State.OK, opus_library().version)
    except CodecUnavailableError as error:
        wanted = settings.sip.enabled and OPUS.name in settings.sip.codecs
        cost = "the server can't start" if wanted else "no calls from browsers"
        return Check(
            "codec opus",
            State.MISSING if wanted else State.DEGRADED,
            str(error),
            cost,
            "install PyAV from its wheel, or Debian's package libopus0",
        )


def _srtp(settings: Settings) -> Check:
    media, sip = settings.media, settings.sip
    found = f"{media.srtp}: {', '.join(media.srtp_suites)}"
    if media.srtp == "off" or not sip.enabled:
        return Check("srtp", State.OK, "off: the audio of SIP calls is not encrypted")
    clear = [name for name, on in (("UDP", sip.udp), ("TCP", sip.tcp)) if on]
    if media.srtp == "require" and clear:
        return Check(
            "srtp",
            State.DEGRADED,
            found,
            f"who reads SIP over {' and '.join(clear)} reads the keys and can decrypt the audio",
            "take calls over sip.tls only: sip.udp: false, sip.tcp: false",
        )
    return Check("srtp", State.OK, found)


def _echo(settings: Settings) -> Check:
    if not settings.echo.cancel:
        return Check("echo", State.OK, "off: what comes back of the agent's voice is heard")
    if echo_library_available():
        return Check("echo", State.OK, f"cancelled, by {LIBRARY}")
    return Check(
        "echo",
        State.DEGRADED,
        f"{LIBRARY} is not installed",
        "over a line that sends it back, the agent may take its own voice for the caller's",
        "install Debian's package libspeexdsp1",
    )


MEDIA_CHECKS: Final[tuple[CheckFunction, ...]] = (_opus, _srtp, _echo)
"""All of this module, in the order they are shown."""
