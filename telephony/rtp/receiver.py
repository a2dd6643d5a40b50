"""The receiving half of a stream: packets in, one 20 ms step out at every tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ringtrue.streaming.ports import Inbound, frame_bytes
from ringtrue.telephony.codecs import Codec, Decoder
from ringtrue.telephony.codecs.rerate import decoder_at
from ringtrue.telephony.rtp.dtmf import DtmfReceiver, TelephoneEvent
from ringtrue.telephony.rtp.jitter import JitterBuffer, Kind, Put
from ringtrue.telephony.rtp.packet import RtpError, RtpPacket
from ringtrue.telephony.rtp.plc import Concealer
from ringtrue.telephony.rtp.reception import Reception
from ringtrue.telephony.rtp.stretch import NEEDED, lengthen, shorten

PROBATION: Final = 3
"""Consecutive packets of a new SSRC, with none of the old between, that make it the source."""

SHORTEN_ABOVE: Final = 0.002
"""Excess delay in seconds, above the step the deadline moves by, from which speech is
shortened."""

LENGTHEN_BELOW: Final = -0.005
"""Excess delay in seconds below which speech is lengthened."""

SPARE: Final = 0.004
"""Seconds held beyond every tick from which they are taken out."""

REST: Final = 2
"""Ticks between two joins, so that speech isn't hurried by more than about a third."""

HURRY: Final = 0.080
"""Excess delay in seconds from which there is no such rest."""

MAX_PAYLOAD_MS: Final = 200
"""A packet that claims more audio than this is refused."""


class RtpReceiver:
    """One caller's audio. ``now`` is the loop's time for packets, the tick's for pulls."""

    def __init__(self, rate: int, clock_rate: int) -> None:
        """``rate`` is the leg's PCM rate in Hz, ``clock_rate`` the audio's RTP clock."""
        self._rate = rate
        self._clock_rate = clock_rate
        self._scale = rate // clock_rate
        self._frame = frame_bytes(rate)
        self._silence = bytes(self._frame)
        self._codecs: Mapping[int, Codec] = {}
        self._events: frozenset[int] = frozenset()
        self._receiving = False
        self.buffer = JitterBuffer(clock_rate)
        self._concealer = Concealer(rate)
        self._dtmf = DtmfReceiver()
        self._digits = ""
        self._codec: Codec | None = None
        self._decoder: Decoder | None = None
        self._pending = b""
        self._rest = 0
        self._probation: list[RtpPacket] = []
        self._lost_before = 0
        self._duplicates = 0
        self.reception: Reception | None = None
        self.refused = 0
        self.received = 0
        self.frames_concealed = 0
        self.joins = 0

    def configure(
        self, codecs: Mapping[int, Codec], events: frozenset[int], *, receiving: bool
    ) -> None:
        """Take these payload types from now on; with ``receiving`` off, silence is pulled."""
        self._codecs, self._events = codecs, events
        if receiving and not self._receiving:
            self.buffer.reset()
            self._pending = b""
        self._receiving = receiving

    @property
    def lost(self) -> int:
        """Packets that never came, over all SSRCs; duplicates don't make up for them."""
        if self.reception is None:
            return 0
        return self._lost_before + max(0, self.reception.lost + self._duplicates)

    def takes(self, packet: RtpPacket) -> bool:
        """Whether its payload type was agreed on and its length is sane."""
        codec = self._codecs.get(packet.payload_type)
        if codec is None:
            return packet.payload_type in self._events
        return codec.duration(packet.payload) * 1000 <= MAX_PAYLOAD_MS * codec.clock_rate

    def packet(self, packet: RtpPacket, now: float) -> bool:
        """Take one packet of the latched source; False if it can't be used."""
        if not self.takes(packet):
            self.refused += 1
            return False
        codec = self._codecs.get(packet.payload_type)
        reception = self.reception
        if reception is None:
            reception = self.reception = Reception(packet.ssrc, self._clock_rate)
        elif packet.ssrc != reception.ssrc:
            return self._other_source(packet, now)
        if self._probation:
            self._probation.clear()
        self._accept(reception, packet, codec, now)
        return True

    def _accept(
        self, reception: Reception, packet: RtpPacket, codec: Codec | None, now: float
    ) -> None:
        self.received += 1
        if codec is not None:
            sequence = reception.packet(packet.sequence_number, packet.timestamp, now)
            if self._receiving:
                put = self.buffer.put(sequence, packet.timestamp, packet.payload, codec, now)
                if put is Put.DUPLICATE:
                    self._duplicates += 1
            return
        self.buffer.note(reception.packet(packet.sequence_number, None, now))
        try:
            event = TelephoneEvent.parse(packet.payload)
        except RtpError:
            self.refused += 1
            return
        self._digits += self._dtmf.packet(event, packet.timestamp, now)

    def _other_source(self, packet: RtpPacket, now: float) -> bool:
        """A new SSRC replaces the old once it has sent alone for a while (RFC 3550 §8.2)."""
        waiting = self._probation
        if waiting and waiting[-1].ssrc != packet.ssrc:
            waiting.clear()
        waiting.append(packet)
        if len(waiting) < PROBATION:
            return True
        assert self.reception is not None
        self._lost_before, self._duplicates = self.lost, 0
        self._digits += self._dtmf.poll(float("inf"))
        self._dtmf = DtmfReceiver()
        self.buffer.reset()
        self.buffer.resets += 1
        reception = self.reception = Reception(packet.ssrc, self._clock_rate)
        self._probation = []
        for held in waiting:
            self._accept(reception, held, self._codecs.get(held.payload_type), now)
        return True

    def pull(self, now: float) -> Inbound:
        """The next 20 ms."""
        digits = self._digits + self._dtmf.poll(now)
        self._digits = ""
        if not self._receiving:
            self._pending = b""
            return Inbound(self._silence, digits=tuple(digits))
        concealed = self._fill(self._frame, now)
        self._steer(now)
        pcm, self._pending = self._pending[: self._frame], self._pending[self._frame :]
        if concealed:
            self.frames_concealed += 1
        return Inbound(pcm, concealed, tuple(digits))

    def _fill(self, wanted: int, now: float) -> bool:
        """Have at least ``wanted`` bytes pending; True if some of them are concealment."""
        concealed = False
        width = 2 * self._scale
        while len(self._pending) < wanted:
            step = self.buffer.get(now, len(self._pending) // width)
            if step.packet is not None:
                pcm = self._decode(step.packet.codec, step.packet.payload)
                self._pending += self._concealer.good(pcm)
            elif step.kind is Kind.SILENCE or self._dtmf.active:
                # a digit instead of audio, the far end's own pause, or nothing sent as yet
                concealed |= self.buffer.silent_unasked and not self._dtmf.active
                self._pending += self._concealer.good(bytes(step.units * width))
            else:
                concealed = True
                self._pending += self._concealer.conceal(step.units * self._scale)
        return concealed

    def _decode(self, codec: Codec, payload: bytes) -> bytes:
        if codec is not self._codec or self._decoder is None:
            self._codec, self._decoder = codec, decoder_at(codec, self._rate)
        return self._decoder.decode(payload)

    def _steer(self, now: float) -> None:
        """Move playout towards where it should be by one join in the speech."""
        buffer = self.buffer
        excess, spare = buffer.excess, buffer.spare * self._scale
        longest = None
        if buffer.step + SHORTEN_ABOVE >= excess >= LENGTHEN_BELOW:
            if spare < SPARE * self._rate:
                return
            longest = spare  # taking out more would bring the deadline forward
        if self._rest and excess < HURRY:
            self._rest -= 1
            return
        if self._concealer.lost:
            return
        needed = 2 * int(NEEDED * self._rate)
        while len(self._pending) < needed and buffer.ready:
            self._fill(len(self._pending) + 1, now)
        pending = self._pending
        if excess < LENGTHEN_BELOW:
            self._pending = lengthen(pending, self._rate)
        else:
            self._pending = shorten(pending, self._rate, longest)
            while len(self._pending) < self._frame and buffer.ready:
                self._fill(len(self._pending) + 1, now)
            if len(self._pending) < self._frame:
                self._pending = pending
        if self._pending is not pending:
            self._rest = REST
            self.joins += 1
            buffer.moved()
