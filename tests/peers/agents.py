"""The smallest agents there can be: a clock, a gate, and something to say each tick."""

from __future__ import annotations

import asyncio
import math
import struct
from abc import ABC, abstractmethod

from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import Draft, Gate, Ticket
from ringtrue.streaming.ports import Call, EndReason, Inbound, frame_samples
from ringtrue.telephony.media_streams.calls import StreamCall


class GatedAgent(ABC):
    """Answers one call; every sample it sends goes through a real gate on a real clock."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.leg = call.leg
        self.inbound = bytearray()
        self.digits: list[str] = []
        self.concealed = 0
        self.end: EndReason | None = None
        self.errors: list[BaseException] = []
        self._ticket: Ticket | None = None

    @abstractmethod
    def speak(self, inbound: Inbound) -> bytes | None:
        """The next 20 ms to say; None is silence."""

    async def run(self) -> None:
        """Until the call is over."""
        loop = asyncio.get_running_loop()
        self.gate = Gate(
            self.call.id, self.leg.rate, opened_at=loop.time(), last_heard=self.leg.last_heard
        )
        clock = MediaClock(on_fault=lambda _, error: self.errors.append(error))
        clock.add(self)
        try:
            self.end = await self.call.ended()
        finally:
            self.gate.close()
            clock.remove(self)

    def tick_in(self, now: float) -> None:
        self._inbound = self.leg.pull(now)
        self.inbound += self._inbound.pcm
        self.digits += self._inbound.digits
        self.concealed += self._inbound.concealed

    def tick_out(self, now: float) -> None:
        pcm = self.speak(self._inbound)
        if pcm is None:
            if self._ticket is not None:
                self.gate.end_utterance()
                self._ticket = None
            draft = Draft()
        else:
            if self._ticket is None:
                self._ticket = self.gate.open_utterance()
                self._sealer = self.gate.provenance.utterance()
            draft = Draft.whole(self._ticket, self._sealer.seal(pcm, now))
        self.leg.send(self.gate.admit(draft, now), now)


class EchoAgent(GatedAgent):
    """Says what it hears."""

    def speak(self, inbound: Inbound) -> bytes | None:
        return None if inbound.concealed else inbound.pcm


class ToneAgent(GatedAgent):
    """A steady 440 Hz tone at about -12 dBFS."""

    _position = 0

    def speak(self, inbound: Inbound) -> bytes | None:
        samples, rate = frame_samples(self.leg.rate), self.leg.rate
        start = self._position
        self._position += samples
        wave = (
            8000 * math.sin(2 * math.pi * 440 * n / rate) for n in range(start, start + samples)
        )
        return struct.pack(f"<{samples}h", *(int(value) for value in wave))


class AgentServer:
    """What answers a router's calls, each with an agent of its own, and remembers them."""

    def __init__(self) -> None:
        self.agent: type[GatedAgent] = EchoAgent
        self.agents: list[GatedAgent] = []
        self.calls: list[StreamCall] = []
        self.full = False
        self.url = ""
        self.done = asyncio.Event()

    async def answer(self, call: StreamCall) -> None:
        """Talk until the call is over."""
        agent = self.agent(call)
        self.calls.append(call)
        self.agents.append(agent)
        try:
            await agent.run()
        finally:
            self.done.set()
