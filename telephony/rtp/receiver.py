"""The receiving half of a stream: packets in, one 20 ms step out at every tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ringtrue.streaming.ports import Inbound, frame_bytes
from ringtrue.telephony.codecs import Codec, ConcealingDecoder, Decoder
from ringtrue.telephony.codecs.comfort_noise import CN, ComfortNoise
from ringtrue.telephony.codecs.rerate import decoder_at
from ringtrue.telephony.rtp.bursts import BurstMeter
from ringtrue.telephony.rtp.dtmf import DtmfReceiver, TelephoneEvent
from ringtrue.telephony.rtp.jitter import PACKET, SILENCE, Held, JitterBuffer, Put, Step
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

MAX_FAILED: Final = 3
"""Searches in vain that double the rest before the next one: to 16 ticks."""

HURRY: Final = 0.080
"""Excess delay in seconds from which rests pass in a quarter of the time, and the one after a
join at once."""

HURRIED: Final = 4

DUPLICATE: Final = Put.DUPLICATE

MAX_PAYLOAD_MS: Final = 200
"""A packet that claims more audio than this is refused."""


class RtpReceiver:
    """One caller's audio. ``now`` is the loop's time for packets, the tick's for pulls."""

    __slots__ = (
        "_clock_rate",
        "_codec",
        "_codecs",
        "_concealer",
        "_conceals",
        "_decoder",
        "_digits",
        "_dtmf",
        "_duplicates",
        "_events",
        "_failed",
        "_frame",
        "_lost_before",
        "_noise",
        "_pause",
        "_pending",
        "_plain",
        "_plain_size",
        "_plain_units",
        "_probation",
        "_rate",
        "_receiving",
        "_rest",
        "_silence",
        "buffer",
        "bursts",
        "frames_concealed",
        "joins",
        "received",
        "reception",
        "refused",
    )

    def __init__(self, rate: int, clock_rate: int) -> None:
        """``rate`` is the leg's PCM rate in Hz, ``clock_rate`` the RTP clock it begins with.

        A codec of another clock may follow (RFC 7160): its first packet begins a time line.
        """
        self._rate = rate
        self._clock_rate = clock_rate
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
        self._conceals: ConcealingDecoder | None = None
        self._plain: Codec | None = None
        self._plain_size = self._plain_units = 0
        """Of the last packet of an ordinary codec: its bytes, and the time they cover."""

        self._noise: ComfortNoise | None = None
        self._pause: Callable[[int], bytes] | None = None
        """Sounds until audio comes again, where the far end said that it pauses."""

        self._pending = b""
        self._rest = self._failed = 0
        self._probation: list[RtpPacket] = []
        self._lost_before = 0
        self._duplicates = 0
        self.bursts = BurstMeter()
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
            self._pause = None
        self._receiving = receiving

    @property
    def lost(self) -> int:
        """Packets that never came, over all SSRCs; duplicates don't make up for them."""
        if self.reception is None:
            return 0
        return self._lost_before + max(0, self.reception.lost + self._duplicates)

    def takes(self, packet: RtpPacket) -> bool:
        """Whether its payload type was agreed on and its length is sane."""
        return self._units(packet, self._codecs.get(packet.payload_type)) is not None

    def _units(self, packet: RtpPacket, codec: Codec | None) -> int | None:
        """RTP timestamp units of audio in it, none in an event; None where it can't be used."""
        if codec is None:
            return 0 if packet.payload_type in self._events else None
        size = len(packet.payload)
        if codec is self._plain and size == self._plain_size:
            return self._plain_units
        units = codec.duration(packet.payload)
        if units * 1000 > MAX_PAYLOAD_MS * codec.clock_rate:
            return None
        if type(codec) is Codec:  # its packets of one length cover the same time
            self._plain, self._plain_size, self._plain_units = codec, size, units
        return units

    def packet(self, packet: RtpPacket, now: float) -> bool:
        """Take one packet of the latched source; False if it can't be used."""
        codec = self._codecs.get(packet.payload_type)
        units = self._units(packet, codec)
        if units is None:
            self.refused += 1
            return False
        reception = self.reception
        if reception is None:
            reception = self.reception = Reception(packet.ssrc, self._clock_rate)
        elif packet.ssrc != reception.ssrc:
            return self._other_source(packet, now)
        if self._probation:
            self._probation.clear()
        self._accept(reception, packet, codec, units, now)
        return True

    def _accept(
        self, reception: Reception, packet: RtpPacket, codec: Codec | None, units: int, now: float
    ) -> None:
        self.received += 1
        if codec is not None and codec.clock_rate != self._clock_rate:
            if reception.behind(packet.sequence_number):
                codec = None
            else:
                self._change_clock(reception, codec.clock_rate)
        if codec is not None:
            sequence = reception.packet(packet.sequence_number, packet.timestamp, now)
            if not units:  # keeps a NAT's binding (RFC 6263 §4.1)
                self.buffer.note(sequence)
            elif self._receiving:
                put = self.buffer.put(sequence, packet.timestamp, packet.payload, codec, now, units)
                if put is DUPLICATE:
                    self._duplicates += 1
            return
        self.buffer.note(reception.packet(packet.sequence_number, None, now))
        if packet.payload_type not in self._events:
            self.buffer.late += 1  # of the clock that was left
            return
        try:
            event = TelephoneEvent.parse(packet.payload)
        except RtpError:
            self.refused += 1
            return
        self._digits += self._dtmf.packet(event, packet.timestamp, now)

    def _change_clock(self, reception: Reception, clock_rate: int) -> None:
        """Play out what is held, and begin a time line in another clock."""
        width = self._frame * MAX_PAYLOAD_MS // 20
        for held in self.buffer.take_all():
            if len(self._pending) < width:
                self._pending += self._concealer.good(self._play(held))
        self.buffer.reset(clock_rate)
        self.buffer.resets += 1
        self._clock_rate = clock_rate
        reception.change_clock(clock_rate)

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
        self._pause = None
        reception = self.reception = Reception(packet.ssrc, self._clock_rate)
        self._probation = []
        for held in waiting:
            codec = self._codecs.get(held.payload_type)
            self._accept(reception, held, codec, self._units(held, codec) or 0, now)
        return True

    def pull(self, now: float, *, steer: bool = True) -> Inbound:
        """The next 20 ms; without ``steer``, delay is left as it stands for once."""
        digits: tuple[str, ...] = ()
        if self._digits or self._dtmf.active:
            digits = tuple(self._digits + self._dtmf.poll(now))
            self._digits = ""
        if not self._receiving:
            self._pending = b""
            return Inbound(self._silence, digits=digits)
        frame = self._frame
        concealed = self._fill(frame, now)
        if steer:
            self._steer(now)
        pending = self._pending
        if len(pending) == frame:
            pcm, self._pending = pending, b""
        else:
            pcm, self._pending = pending[:frame], pending[frame:]
        if concealed:
            self.frames_concealed += 1
        return Inbound(pcm, concealed, digits)

    def _fill(self, wanted: int, now: float) -> bool:
        """Have at least ``wanted`` bytes pending; True if some of them are concealment."""
        concealed = False
        while len(self._pending) < wanted:
            buffered = len(self._pending) // 2 * self._clock_rate // self._rate
            quantum = self._codec.quantum if self._conceals and self._codec else 1
            step = self.buffer.get(now, buffered, quantum)
            if step.kind is PACKET and step.packet is not None:
                self.bursts.played(step.missing)
                pcm = self._concealer.good(self._play(step.packet))
            elif self._dtmf.active:  # a digit instead of audio
                pcm = self._concealer.good(bytes(2 * self._samples(step.units)))
            elif self._pause is not None:
                pcm = self._concealer.good(self._pause(self._samples(step.units)))
            elif step.kind is SILENCE:  # the far end's own pause, or nothing sent as yet
                concealed |= self.buffer.silent_unasked
                pcm = self._concealer.good(bytes(2 * self._samples(step.units)))
            else:
                concealed = True
                pcm = self._concealment(step)
            self._pending += pcm
        return concealed

    def _samples(self, units: int) -> int:
        """Samples at the leg's rate in ``units`` of the RTP clock; never none."""
        return max(1, units * self._rate // self._clock_rate)

    def _play(self, packet: Held) -> bytes:
        codec = packet.codec
        if codec is self._codec and self._conceals is None and self._decoder is not None:
            self._pause = None
            return self._decoder.decode(packet.payload)
        if codec is CN:
            if self._noise is None:
                self._noise = ComfortNoise(self._rate)
            self._noise.update(packet.payload)
            self._pause = self._noise.generate
            return self._noise.generate(self._samples(packet.units))
        if self._codec is None or codec.decoder is not self._codec.decoder:
            decoder = self._decoder = decoder_at(codec, self._rate)
            self._conceals = decoder if isinstance(decoder, ConcealingDecoder) else None
        self._codec = codec
        assert self._decoder is not None
        silent = self._conceals is not None and codec.silent(packet.payload)
        self._pause = self._conceals.conceal if silent and self._conceals else None
        return self._decoder.decode(packet.payload)

    def _concealment(self, step: Step) -> bytes:
        samples = self._samples(step.units)
        if self._conceals is None:
            return self._concealer.conceal(samples)
        after = step.packet
        if after is not None and self._codec and after.codec.decoder is self._codec.decoder:
            pcm = self._conceals.recover(after.payload, samples)
        else:
            pcm = self._conceals.conceal(samples)
        return self._concealer.good(pcm)

    def _steer(self, now: float) -> None:
        """Move playout towards where it should be by one join in the speech."""
        buffer = self.buffer
        excess, spare = buffer.excess, buffer.spare * self._rate // self._clock_rate
        longest = None
        if buffer.step + SHORTEN_ABOVE >= excess >= LENGTHEN_BELOW:
            if spare < SPARE * self._rate:
                return
            longest = spare  # taking out more would bring the deadline forward
        hurry = HURRIED if excess >= HURRY else 1
        if self._rest >= hurry:
            self._rest -= hurry
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
        # Rest after a join, and longer each time before looking again where none goes unheard: a
        # search costs more than all else that a tick does.
        self._failed = 0 if self._pending is not pending else min(self._failed + 1, MAX_FAILED)
        self._rest = REST << self._failed
        if self._pending is not pending:
            self.joins += 1
            buffer.moved()
