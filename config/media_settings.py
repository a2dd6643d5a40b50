"""Settings of media over RTP: encryption, order of codecs, pauses, digits, sources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from ringtrue.config.section import Section, split_list

Suite = Literal[
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
]


class MediaSettings(Section):
    """The audio of SIP calls."""

    srtp: Literal["off", "offer", "require"] = "offer"
    """``offer``: encrypted where the far end can; ``require``: encrypted or refused (488)."""

    srtp_suites: Annotated[tuple[Suite, ...], BeforeValidator(split_list), Field(min_length=1)] = (
        "AES_CM_128_HMAC_SHA1_80",
        "AEAD_AES_256_GCM",
        "AEAD_AES_128_GCM",
    )
    """What is taken, and offered in this order."""

    codec_order: Literal["caller", "server"] = "caller"
    """Whose order of codecs an answer follows; offers follow ``sip.codecs``."""

    comfort_noise: bool = True
    """Far ends may send comfort noise for their pauses (RFC 3389)."""

    send_pauses: bool = False
    """Long silences are sent as comfort noise where that was agreed on; else as audio."""

    rtcp_mux: bool = False
    """Offer reports on the media port (RFC 5761); a far end that asks for it always gets it."""

    inband_dtmf: Literal["auto", "on", "off"] = "auto"
    """Listen for digits in the audio; ``auto``: where no telephone events were agreed on."""

    learn_source: Literal["off", "trusted", "any"] = "trusted"
    """From where media may come that is not from the signalled address: ``trusted``, another
    port of that host or of the one signalling comes from; ``any``, any host."""

    @field_validator("srtp_suites")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names something twice")
        return value
