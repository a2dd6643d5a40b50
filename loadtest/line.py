"""The caller's end of a call, driven by the caller's own media clock.

Each tick pulls 20 ms of the agent and sends 20 ms of the caller. The caller's audio takes the
same way as the agent's does on the server: through a playout buffer and a gate, since a leg
accepts sealed frames only. Everything said and heard is recorded and measured on one time line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ringtrue.loadtest.ear import UTTERANCE_GAP_MS, Span, SpeechDetector
from ringtrue.loadtest.prompts import Prompt
from ringtrue.loadtest.recording import MAX_SECONDS, Recording
from ringtrue.streaming.clock import TICK, MediaClock, Ticked
from ringtrue.streaming.gate import Gate, GatePolicy, Watermarker
from ringtrue.streaming.playout import Playout
from ringtrue.streaming.ports import MediaLeg, frame_samples
from ringtrue.streaming.provenance import Lane
from ringtrue.streaming.tones import dtmf_frames

MAX_PENDING: Final = 32
"""Things queued to be said and not begun."""


@dataclass(slots=True)
class Said:
    """Something the caller said, and where in the recording it lies."""

    name: str
    text: str
    speech: Span
    """Its speech, in samples of the recording at the line's rate."""

    interrupts: bool
    """Whether the agent was in the middle of an utterance when it began."""


@dataclass(slots=True)
class _Queued:
    prompt: Prompt | None
    done: asyncio.Future[bool]
    murmur: bool = False


@dataclass(slots=True)
class _Waiter:
    predicate: Callable[[], bool]
    future: asyncio.Future[bool]


@dataclass(slots=True)
class LineFaults:
    """What went wrong on the caller's own side, so that it isn't laid at the agent's door."""

    concealed: list[Span] = field(default_factory=list)
    """Frames that came too late or not at all: the leg's concealment was heard."""

    skipped: list[Span] = field(default_factory=list)
    """Frames that the caller's clock missed: silence in both channels."""

    refused: int = 0
    """Caller frames that its gate replaced by silence."""

    error: str | None = None
    """What made the clock drop the line."""


class CallerLine:
    """One call's audio, both ways. Implements :class:`~ringtrue.streaming.clock.Ticked`."""

    def __init__(
        self,
        leg: MediaLeg,
        call_id: str,
        now: float,
        *,
        max_seconds: float = MAX_SECONDS,
        tick: float = TICK,
        background: Watermarker | None = None,
    ) -> None:
        """Take over ``leg`` of an answered call; nothing happens before the first tick.

        ``tick`` is how many seconds 20 ms take by the caller's own clock; ``background`` is put
        under everything sent.
        """
        self._leg = leg
        self._tick = tick
        self.rate = leg.rate
        self._frame = frame_samples(leg.rate)
        self.recording = Recording(leg.rate, self._frame, max_seconds=max_seconds)
        self.detector = SpeechDetector(leg.rate)
        self.detector.feed(bytes(2 * self._frame))
        self.said: list[Said] = []
        self.murmured: list[Said] = []
        """What asked for no answer: backchannels, noises, parting words."""

        self.digits_heard: list[str] = []
        self.faults = LineFaults()
        self.origin: float | None = None
        """Loop time of the recording's first sample; None before the first tick."""

        self._playout: Playout[None] = Playout(leg.rate)
        # A caller says nothing stale: a gate that holds frames back would falsify the test.
        self._gate = Gate(
            call_id,
            leg.rate,
            opened_at=now,
            last_heard=leg.last_heard,
            policy=GatePolicy(far_end_timeout=max_seconds, far_end_grace=max_seconds),
            watermarker=background,
        )
        self._queued: deque[_Queued] = deque()
        self._waiters: list[_Waiter] = []
        self._closed = False

    @property
    def leg(self) -> MediaLeg:
        """The leg it drives."""
        return self._leg

    @property
    def position(self) -> int:
        """Samples heard: now, on the recording's time line."""
        return self.recording.agent_position

    @property
    def agent_speaking(self) -> bool:
        """Whether the agent is within a stretch of speech."""
        return self.detector.speaking

    def agent_quiet_samples(self) -> int:
        """Samples since the agent was last heard; since the beginning, if never."""
        return self.position - (self.detector.last_speech or 0)

    def seconds(self, position: int) -> float:
        """Loop time of a position. Raises ``RuntimeError`` before the first tick."""
        if self.origin is None:
            raise RuntimeError("the line has not ticked yet")
        return self.origin + position / self.rate

    def say(self, prompt: Prompt, *, murmur: bool = False) -> asyncio.Future[bool]:
        """Queue a prompt behind what is being said; True when its last frame was sent.

        The future is False if the line closed before. A ``murmur`` asks for no answer, and need
        not be speech. Raises ``ValueError`` when too much waits
        already or the prompt holds no speech.
        """
        prompt = prompt.at(self.rate)
        if not (murmur or prompt.speech) or not self._playout.has_room():
            raise ValueError(f"no room to say {prompt.name!r}")
        done = self._queue(prompt, murmur=murmur)
        self._playout.begin(prompt.name)
        sealer = self._gate.provenance.utterance()
        self._playout.write(sealer.seal(prompt.pcm, asyncio.get_running_loop().time()))
        self._playout.finish()
        return done

    def press(self, digits: str) -> asyncio.Future[bool]:
        """Queue DTMF digits, as :meth:`say` does speech. Raises ``ValueError`` for others."""
        dtmf_frames(digits, self.rate)
        done = self._queue(None)
        sealer = self._gate.provenance.utterance(Lane.TONES)
        self._playout.write_digits(digits, asyncio.get_running_loop().time(), sealer)
        return done

    def until(self, predicate: Callable[[], bool]) -> asyncio.Future[bool]:
        """True at the first tick after which ``predicate`` holds; False if the line closes.

        Cancelling the future ends the watch.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(False)
        else:
            self._waiters.append(_Waiter(predicate, future))
        return future

    def tick_in(self, now: float) -> None:
        """Hear 20 ms."""
        if self._closed:
            return
        self._fill_skipped(now)
        inbound = self._leg.pull(now)
        start = self.position
        self.recording.heard(inbound.pcm)
        if inbound.concealed:
            self.faults.concealed.append(Span(start, start + self._frame))
        self.digits_heard.extend(inbound.digits)
        self.detector.feed(inbound.pcm)

    def tick_out(self, now: float) -> None:
        """Send 20 ms and wake who waited for what was heard."""
        if self._closed:
            return
        step = self._playout.take(now, self._gate.open_utterance)
        refused = self._gate.stats.refused.total()
        frame = self._gate.admit(step.draft, now)
        self.faults.refused += self._gate.stats.refused.total() - refused
        self._leg.send(frame, now)
        start = self.recording.caller_position
        self.recording.sent(frame.pcm)
        if step.began is not None and self._queued:
            self._begin(self._queued[0], start)
        if step.ended is not None:
            self._gate.end_utterance()
            if self._queued:
                _settle(self._queued.popleft().done, True)
        self._wake()

    def close(self) -> None:
        """The call is over: end the speech in progress and tell who waits. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._gate.close()
        self.detector.close()
        for future in [w.future for w in self._waiters] + [q.done for q in self._queued]:
            _settle(future, False)
        self._waiters.clear()
        self._queued.clear()

    def break_off(self, error: BaseException) -> None:
        """The clock dropped this line because a tick raised ``error``."""
        self.faults.error = f"{type(error).__name__}: {error}"
        self.close()

    def _queue(self, prompt: Prompt | None, *, murmur: bool = False) -> asyncio.Future[bool]:
        if self._closed or len(self._queued) >= MAX_PENDING:
            raise ValueError("the line is closed or has too much left to say")
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queued.append(_Queued(prompt, future, murmur))
        return future

    def _begin(self, queued: _Queued, start: int) -> None:
        prompt = queued.prompt
        if prompt is None:
            return
        within = Span(0, len(prompt.pcm) // 2) if queued.murmur else prompt.speech
        speech = Span(start + within.start, start + within.end)
        quiet_ms = self.agent_quiet_samples() * 1000 / self.rate
        interrupts = self.detector.last_speech is not None and quiet_ms < UTTERANCE_GAP_MS
        kept = self.murmured if queued.murmur else self.said
        kept.append(Said(prompt.name, prompt.text, speech, interrupts))

    def _fill_skipped(self, now: float) -> None:
        if self.origin is None:
            self.origin = now - self._tick
            return
        due = round((now - self.origin) / self._tick) * self._frame
        silence = bytes(2 * self._frame)
        while self.position < due and not self.recording.truncated:
            start = self.position
            self.faults.skipped.append(Span(start, start + self._frame))
            if self.said and self.said[-1].speech.end > self.recording.caller_position:
                speech = self.said[-1].speech
                self.said[-1].speech = Span(speech.start, speech.end + self._frame)
            self.recording.heard(silence)
            self.recording.sent(silence)
            self.detector.feed(silence)

    def _wake(self) -> None:
        waiting = [waiter for waiter in self._waiters if not waiter.future.done()]
        self._waiters = []
        for waiter in waiting:
            if waiter.predicate():
                _settle(waiter.future, True)
            else:
                self._waiters.append(waiter)


def caller_clock(drift_ppm: float = 0.0) -> MediaClock:
    """A media clock for lines: one whose tick fails is closed and says why.

    It runs ``drift_ppm`` parts per million fast.
    """

    def break_off(ticked: Ticked, error: BaseException) -> None:
        if isinstance(ticked, CallerLine):
            ticked.break_off(error)

    return MediaClock(on_fault=break_off, tick=TICK / (1 + drift_ppm * 1e-6))


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
