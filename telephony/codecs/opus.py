"""Opus for telephone speech: 16 kHz mono PCM in 20 ms frames (RFC 6716, RFC 7587).

The library takes and gives 16 kHz as it is (wideband), so nothing is resampled on the way. RTP's
clock for Opus is 48 kHz whatever the audio's rate (RFC 7587 §4.1).
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Final

from ringtrue.streaming.ports import frame_samples
from ringtrue.telephony.codecs.base import Codec
from ringtrue.telephony.codecs.opus_library import opus_library

RATE: Final = 16000
RTP_CLOCK: Final = 48000
RTP_PER_SAMPLE: Final = RTP_CLOCK // RATE

BIT_RATE: Final = 32000
MIN_BIT_RATE: Final = 6000
"""RFC 7587 §6.1."""

COMPLEXITY: Final = 5
"""Of 0–10: half the CPU of 10, and not told apart from it at this bit rate."""

EXPECTED_LOSS: Final = 5
"""Percent; how much of the previous frame is repeated in each packet (in-band FEC)."""

MAX_PACKET_MS: Final = 120
"""Longest packet Opus allows (RFC 6716 §3.2.5)."""

MAX_PACKET_BYTES: Final = 1275
"""Longest frame there is (RFC 6716 §3.2.1)."""

QUANTUM: Final = 120
"""Timestamp units of the shortest frame, 2.5 ms."""

DTX_BYTES: Final = 2
"""A packet this short holds no audio: the sender has paused (RFC 6716 §2.1.9)."""

_APPLICATION_VOIP: Final = 2048
_SET_BITRATE, _SET_MAX_BANDWIDTH, _SET_VBR = 4002, 4004, 4006
_SET_COMPLEXITY, _SET_INBAND_FEC, _SET_PACKET_LOSS = 4010, 4012, 4014
_SET_SIGNAL, _SIGNAL_VOICE = 4024, 3001
_NARROWBAND, _MEDIUMBAND, _WIDEBAND = 1101, 1102, 1103

_FRAME_TENTHS_MS: Final = (
    (100, 200, 400, 600) * 3  # SILK, narrow to wide band
    + (100, 200) * 2  # hybrid
    + (25, 50, 100, 200) * 4  # CELT
)
"""Length of one frame by configuration number (RFC 6716 §3.1, table 2)."""


def packet_units(payload: bytes) -> int:
    """Timestamp units (48 kHz) of one packet, read from its head (RFC 6716 §3.1); 0 if invalid."""
    if not payload:
        return 0
    head = payload[0]
    match head & 0x03:
        case 0:
            frames = 1
        case 3:
            frames = payload[1] & 0x3F if len(payload) > 1 else 0
        case _:
            frames = 2
    tenths = frames * _FRAME_TENTHS_MS[head >> 3]
    return tenths * RTP_CLOCK // 10_000 if tenths <= 10 * MAX_PACKET_MS else 0


@dataclass(frozen=True, slots=True)
class OpusWishes:
    """What a far end asks of the packets sent to it (RFC 7587 §6.1).

    ``usedtx`` is not among them: it allows pauses and asks for none, and silence is sent as audio.
    """

    bit_rate: int = BIT_RATE
    bandwidth: int = _WIDEBAND
    fec: bool = True
    constant: bool = False

    @classmethod
    def read(cls, parameters: str) -> OpusWishes:
        """Of an a=fmtp; what can't be read there counts as not said."""
        said: dict[str, str] = {}
        for item in parameters.split(";"):
            name, _, value = item.partition("=")
            said.setdefault(name.strip().lower(), value.strip())

        def number(name: str, default: int) -> int:
            value = said.get(name, "")
            plain = value.isascii() and value.isdigit() and len(value) < 10
            return int(value) if plain else default

        playback = number("maxplaybackrate", RTP_CLOCK)
        return cls(
            bit_rate=max(MIN_BIT_RATE, min(BIT_RATE, number("maxaveragebitrate", BIT_RATE))),
            bandwidth=(
                _NARROWBAND if playback < 12000 else _MEDIUMBAND if playback < RATE else _WIDEBAND
            ),
            fec=number("useinbandfec", 0) == 1,
            constant=number("cbr", 0) == 1,
        )


class OpusEncoder:
    """One outbound direction."""

    def __init__(self, wishes: OpusWishes | None = None) -> None:
        """Raises :class:`~ringtrue.telephony.codecs.opus_library.CodecUnavailableError`."""
        library, error = opus_library(), ctypes.c_int()
        wishes = wishes or OpusWishes()
        self._state = library.encoder_create(RATE, 1, _APPLICATION_VOIP, ctypes.byref(error))
        if not self._state:
            raise MemoryError(f"opus_encoder_create: error {error.value}")
        weakref.finalize(self, library.encoder_destroy, self._state)
        for request, value in (
            (_SET_BITRATE, wishes.bit_rate),
            (_SET_MAX_BANDWIDTH, wishes.bandwidth),
            (_SET_VBR, int(not wishes.constant)),
            (_SET_COMPLEXITY, COMPLEXITY),
            (_SET_INBAND_FEC, int(wishes.fec)),
            (_SET_PACKET_LOSS, EXPECTED_LOSS if wishes.fec else 0),
            (_SET_SIGNAL, _SIGNAL_VOICE),
        ):
            library.encoder_ctl(self._state, request, ctypes.c_int(value))
        self._encode = library.encode
        self._out = ctypes.create_string_buffer(MAX_PACKET_BYTES)
        self._samples = frame_samples(RATE)

    def encode(self, pcm: bytes) -> bytes:
        """Encode one 20 ms frame (640 bytes) to one packet; holds nothing back."""
        if len(pcm) != 2 * self._samples:
            raise ValueError(f"Opus takes {2 * self._samples} bytes of PCM, not {len(pcm)}")
        size = self._encode(self._state, pcm, self._samples, self._out, MAX_PACKET_BYTES)
        return self._out.raw[: max(0, size)]


class OpusDecoder:
    """One inbound direction: stereo is mixed down, every audio bandwidth becomes 16 kHz."""

    def __init__(self) -> None:
        """Start with no history; raises as :class:`OpusEncoder`."""
        library, error = opus_library(), ctypes.c_int()
        self._state = library.decoder_create(RATE, 1, ctypes.byref(error))
        if not self._state:
            raise MemoryError(f"opus_decoder_create: error {error.value}")
        weakref.finalize(self, library.decoder_destroy, self._state)
        self._decode = library.decode
        self._most = MAX_PACKET_MS * RATE // 1000
        self._out = (ctypes.c_int16 * self._most)()

    def decode(self, payload: bytes) -> bytes:
        """16 kHz PCM of one packet, exactly as long as its head says; ``b""`` if invalid."""
        if not packet_units(payload):
            return b""
        return self._run(payload, self._most, fec=False)

    def conceal(self, samples: int) -> bytes:
        """``samples`` at 16 kHz in place of what did not come; multiples of 2.5 ms are best."""
        return self._whole(None, samples)

    def recover(self, payload: bytes, samples: int) -> bytes:
        """``samples`` in place of the packet before ``payload``, out of its copy in there.

        Where there is no copy, the library conceals.
        """
        return self._whole(payload, samples)

    def _whole(self, payload: bytes | None, samples: int) -> bytes:
        step = QUANTUM // RTP_PER_SAMPLE
        asked = min(self._most, -(-samples // step) * step)
        pcm = self._run(payload, asked, fec=payload is not None)
        return pcm[: 2 * samples] + bytes(max(0, 2 * samples - len(pcm)))

    def _run(self, payload: bytes | None, most: int, *, fec: bool) -> bytes:
        size = 0 if payload is None else len(payload)
        samples = self._decode(self._state, payload, size, self._out, most, int(fec))
        return ctypes.string_at(self._out, 2 * max(0, samples))


@dataclass(frozen=True, slots=True)
class OpusCodec(Codec):
    """Packets tell their own length; the encoder follows the far end's wishes."""

    wishes: OpusWishes = field(default_factory=OpusWishes)

    def duration(self, payload: bytes) -> int:
        """Timestamp units ``payload`` covers."""
        return packet_units(payload)

    def tuned(self, parameters: str) -> Codec:
        """As the far end's ``parameters`` ask for it."""
        return _tuned(OpusWishes.read(parameters))

    def silent(self, payload: bytes) -> bool:
        """Discontinuous transmission has begun."""
        return len(payload) <= DTX_BYTES


OPUS: Final = OpusCodec(
    name="opus",
    payload_type=111,
    clock_rate=RTP_CLOCK,
    pcm_rate=RATE,
    payload_bytes_per_second=BIT_RATE // 8,
    encoder=OpusEncoder,
    decoder=OpusDecoder,
    channels=2,  # always, in a=rtpmap (RFC 7587 §7)
    parameters=f"minptime=10;useinbandfec=1;stereo=0;maxplaybackrate={RATE};"
    f"sprop-maxcapturerate={RATE}",
    quantum=QUANTUM,
)
"""Opus; its payload type is dynamic."""


@lru_cache(maxsize=64)
def _tuned(wishes: OpusWishes) -> Codec:
    return replace(OPUS, encoder=partial(OpusEncoder, wishes), wishes=wishes)
