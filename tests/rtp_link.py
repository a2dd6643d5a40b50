"""A far end that sends RTP through an emulated network, and a call that hears it, in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ringtrue.loadtest.netem import Impairments, Netem, drifted
from ringtrue.streaming.gate import DigitEvent, Draft, FrameKind, Gate, SealedFrame, Ticket
from ringtrue.streaming.ports import Inbound, frame_samples
from ringtrue.telephony.codecs import CODECS, PCMU, Codec
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.stream import RtpStream, StreamPlan

TICK = 0.020
FAR = ("192.0.2.7", 40000)
FAR_RTCP = ("192.0.2.7", 40001)
EVENTS = 101


def voice(seconds: float, rate: int = 8000, seed: int = 1) -> np.ndarray:
    """Something voiced: harmonics of a wandering pitch, in syllables with pauses (int16)."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    time = np.arange(count) / rate
    pitch = 130 + 25 * np.sin(2 * np.pi * 0.6 * time) + 8 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllable = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.6, 0, None)
    phrase = (np.sin(2 * np.pi * 0.35 * time) > -0.5).astype(float)
    noise = rng.normal(size=count) * 12
    return np.clip(wave * syllable * phrase * 4000 + noise, -32000, 32000).astype("<i2")


def plan(codec: Codec = PCMU, *, sending: bool = True, receiving: bool = True) -> StreamPlan:
    """What signalling would have agreed on with :data:`FAR`."""
    return StreamPlan(
        codec=codec,
        payload_type=codec.payload_type,
        receive={c.payload_type: c for c in CODECS},
        event_type=EVENTS,
        receive_events=frozenset({EVENTS}),
        sending=sending,
        receiving=receiving,
        remote=FAR,
        remote_rtcp=FAR_RTCP,
    )


def stream(codec: Codec = PCMU, now: float = 0.0, **kwargs: object) -> RtpStream:
    """A stream that has agreed on ``codec`` with :data:`FAR`."""
    made = RtpStream(codec.pcm_rate, codec.clock_rate, now=now, **kwargs)  # type: ignore[arg-type]
    made.configure(plan(codec), now)
    return made


def packets(
    pcm: np.ndarray, codec: Codec = PCMU, *, ptime_ms: int = 20, ssrc: int = 0xCAFE, first: int = 0
) -> list[RtpPacket]:
    """``pcm`` at the codec's rate as consecutive packets of ``ptime_ms``."""
    encoder = codec.encoder()
    frame = frame_samples(codec.pcm_rate)
    payload = b"".join(
        encoder.encode(pcm[at : at + frame].tobytes())
        for at in range(0, len(pcm) // frame * frame, frame)
    )
    size = codec.payload_bytes_per_second * ptime_ms // 1000
    units = codec.clock_rate * ptime_ms // 1000
    return [
        RtpPacket(
            payload_type=codec.payload_type,
            sequence_number=(first + number) & 0xFFFF,
            timestamp=(1_000 + number * units) & 0xFFFF_FFFF,
            ssrc=ssrc,
            payload=payload[number * size : (number + 1) * size],
            marker=number == 0,
        )
        for number in range(len(payload) // size)
    ]


@dataclass
class Heard:
    """What the call heard."""

    steps: list[Inbound] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)

    @property
    def pcm(self) -> np.ndarray:
        return np.frombuffer(b"".join(step.pcm for step in self.steps), "<i2")

    @property
    def concealed(self) -> float:
        """Share of steps that were concealment."""
        return sum(step.concealed for step in self.steps) / max(1, len(self.steps))

    @property
    def digits(self) -> str:
        return "".join(digit for step in self.steps for digit in step.digits)


def run(
    call: RtpStream,
    sent: list[RtpPacket],
    how: Impairments | None = None,
    *,
    seed: int = 1,
    ptime_ms: int = 20,
    ppm: float = 0.0,
    extra: float = 0.5,
    begin: float = 0.0031,
    each: Callable[[float], None] | None = None,
) -> Heard:
    """Send packets at their times by a clock ``ppm`` fast, through ``how``; tick the call.

    ``begin`` shifts the sender against the call's ticks; ``each`` is called before every tick.
    """
    path: Netem[bytes] = Netem(how or Impairments(), seed)
    heard = Heard()
    seconds = len(sent) * ptime_ms / 1000 + extra
    at = iter(sent)
    upcoming = next(at, None)
    index = 0
    for tick in range(1, int(seconds / TICK)):
        now = tick * TICK
        while upcoming is not None:
            due = begin + index * ptime_ms / 1000 / drifted(1.0, ppm)
            if due > now:
                break
            path.send(upcoming.serialize(), due)
            upcoming, index = next(at, None), index + 1
        for arrival, data in path.deliver(now):
            call.receive(data, FAR, arrival)
        if each is not None:
            each(now)
        heard.steps.append(call.pull(now))
        heard.depths.append(call.receiver.buffer.depth)
        heard.targets.append(call.receiver.buffer.target)
    return heard


class Speaker:
    """Makes sealed frames the only way there is: through a gate."""

    def __init__(self, rate: int = 8000, call_id: str = "call") -> None:
        self._gate = Gate(call_id, rate, opened_at=0.0, last_heard=lambda: float("inf"))
        self._ticket: Ticket = self._gate.open_utterance()
        self._sealer = self._gate.provenance.utterance()

    def frame(
        self, pcm: bytes | None = None, now: float = 0.0, digit: DigitEvent | None = None
    ) -> SealedFrame:
        """Seal one frame of ``pcm`` (silence by default), or a step of a digit."""
        if pcm is None:
            return self._gate.admit(Draft(), now)
        kind = FrameKind.SPEECH if digit is None else FrameKind.DIGIT
        chunk = self._sealer.seal(pcm, now, kind=kind, digit=digit)
        return self._gate.admit(Draft.whole(self._ticket, chunk), now)
