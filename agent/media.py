"""What the settings say of SIP media, as the media sessions take it."""

from __future__ import annotations

from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.telephony.codecs import OPUS
from ringtrue.telephony.codecs.opus_library import CodecUnavailableError, opus_library
from ringtrue.telephony.rtp.latch import LatchPolicy
from ringtrue.telephony.rtp.session import MediaOptions
from ringtrue.telephony.sdes import Security, SrtpMode, suite_named


def media_options(settings: Settings) -> MediaOptions:
    """The options of every call's media session.

    Raises :class:`ConfigError` where a configured codec can't be had on this machine.
    """
    if OPUS.name in settings.sip.codecs:
        try:
            opus_library()
        except CodecUnavailableError as error:
            raise ConfigError(f"sip.codecs: {error}") from error
    media = settings.media
    return MediaOptions(
        security=Security(
            SrtpMode(media.srtp), tuple(suite_named(name) for name in media.srtp_suites)
        ),
        comfort_noise=media.comfort_noise,
        send_pauses=media.send_pauses,
        rtcp_mux=media.rtcp_mux,
        own_order=media.codec_order == "server",
        inband=media.inband_dtmf,
        latch=LatchPolicy(learn=media.learn_source),
    )
