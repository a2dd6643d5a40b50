"""An agent for tests: real SIP and RTP, but what it says and when is fixed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from ringtrue.loadtest.ear import SpeechDetector
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import Gate
from ringtrue.streaming.playout import Playout
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite, SipCall


def voice(seconds: float, rate: int = 8000) -> bytes:
    """Noise at speech level, loud to its first and last sample."""
    choices = np.random.default_rng(5).choice([-3000, 3000], int(seconds * rate))
    return bytes(choices.astype("<i2").tobytes())


class AgentCall:
    """Greets, answers what ends with silence, and stops when spoken over."""

    def __init__(
        self, call: SipCall, answers: Iterable[bytes], *, delay: float, greeting: bytes, now: float
    ) -> None:
        self.call = call
        self.leg = call.leg
        self.playout: Playout[None] = Playout(self.leg.rate)
        self.gate = Gate(call.id, self.leg.rate, opened_at=now, last_heard=self.leg.last_heard)
        self.ear = SpeechDetector(self.leg.rate)
        self.answers = deque(answers)
        self.delay = delay
        self.began: list[float] = []
        self.cut: list[float] = []
        self.digits = ""
        self.hung_up = False
        self._heard = 0
        self._due: float | None = None
        if greeting:
            self.speak(greeting, now)

    def speak(self, pcm: bytes, now: float) -> None:
        self.playout.begin("speech")
        self.playout.write(self.gate.provenance.utterance().seal(pcm, now))
        self.playout.finish()

    def tick_in(self, now: float) -> None:
        inbound = self.leg.pull(now)
        self.digits += "".join(inbound.digits)
        self.ear.feed(inbound.pcm)
        if self.ear.speaking and self.playout.speaking:
            self.playout.cut()
            self.gate.cut()
            self.cut.append(now)
        if len(self.ear.spans) > self._heard:
            self._heard = len(self.ear.spans)
            self._due = now + self.delay
        if self._due is not None and now >= self._due and not self.ear.speaking:
            self._due = None
            if self.answers:
                self.speak(self.answers.popleft(), now)

    def tick_out(self, now: float) -> None:
        step = self.playout.take(now, self.gate.open_utterance)
        self.leg.send(self.gate.admit(step.draft, now), now)
        if step.began is not None:
            self.began.append(now)
        if step.ended is not None:
            self.gate.end_utterance()


class ScriptedAgent:
    """A server on a free port of 127.0.0.1 that gives every call the same agent.

    ``hang_up_after`` ends the call so many answers into it, once the last one has been sent.
    """

    def __init__(
        self,
        *answers: bytes,
        delay: float = 0.3,
        greeting: bytes = b"",
        answer_status: int = 200,
        hang_up: bool = False,
        codecs: tuple[str, ...] = ("G722", "PCMU", "PCMA"),
        drop: Callable[[float], bool] | None = None,
    ) -> None:
        self.answers, self.delay, self.greeting = answers, delay, greeting
        self.answer_status, self.hang_up = answer_status, hang_up
        self.calls: list[AgentCall] = []
        self.clock = MediaClock()
        self._pool = PortPool("127.0.0.1")
        self._media = session_factory(self._pool, codecs=codecs)
        self.endpoint = SipEndpoint("127.0.0.1", 0, on_invite=self._serve)

    @property
    def target(self) -> str:
        return f"sip:agent@127.0.0.1:{self.endpoint.port}"

    async def __aenter__(self) -> ScriptedAgent:
        await self.endpoint.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.close()
        self.clock.stop()

    async def _serve(self, invite: ServerInvite) -> None:
        if self.answer_status == 0:
            await invite.ring()
            await invite.cancelled
            return
        if self.answer_status != 200:
            await invite.reject(self.answer_status)
            return
        call = await invite.answer(self._media)
        agent = AgentCall(
            call,
            self.answers,
            delay=self.delay,
            greeting=self.greeting,
            now=asyncio.get_running_loop().time(),
        )
        self.calls.append(agent)
        self.clock.add(agent)
        try:
            if self.hang_up:
                await self._hang_up(agent)
            await call.ended()
        finally:
            self.clock.remove(agent)

    async def _hang_up(self, agent: AgentCall) -> None:
        ended = asyncio.ensure_future(agent.call.ended())
        while not ended.done():
            await asyncio.sleep(0.02)
            if not agent.answers and agent.began and agent.playout.idle and agent._due is None:
                await agent.call.hangup(EndReason.AGENT_HUNG_UP)
        await ended
