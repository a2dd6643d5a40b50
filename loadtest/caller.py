"""A caller that follows a script over a real SIP call and reports how it went.

A script is a coroutine function that is given a :class:`VirtualCaller`. Every step is bounded in
time; an expectation that isn't met ends the script with a :class:`ScriptFailedError` that names
its :class:`Failure`, and the call's result carries it. A call never hangs and never vanishes
from the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from ringtrue.loadtest.ear import Span
from ringtrue.loadtest.line import CallerLine, LineFaults, Said
from ringtrue.loadtest.prompts import Prompt
from ringtrue.loadtest.recording import MAX_SECONDS, Recording
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.gate import Watermarker
from ringtrue.streaming.ports import Call, EndReason, Holding, LegStats

log = structlog.get_logger(__name__)

HANGUP_SECONDS: Final = 5.0
"""How long our own hang-up may take."""

INSISTED: Final = 2
"""How often a caller who is done says so again."""

ASKED_MS: Final = 1500
"""An agent that was silent for so long and is still there waits for an answer."""


QUIET_MS: Final = 900
"""Of the agent, after which it has come to an end."""


class Failure(StrEnum):
    """Why a call did not go as its script says."""

    NOT_ANSWERED = "not_answered"
    """Refused, or no answer in time."""

    AGENT_SILENT = "agent_silent"
    """The agent was expected to speak and didn't."""

    AGENT_ENDLESS = "agent_endless"
    """The agent was expected to come to an end and didn't."""

    CALL_ENDED = "call_ended"
    """The call was over before the script was."""

    NOT_HUNG_UP = "not_hung_up"
    """The agent was expected to hang up and didn't."""

    TOO_LONG = "too_long"
    """The script as a whole took too long."""

    BROKEN = "broken"
    """The caller itself failed."""


class RefusedError(RingtrueError):
    """The far end said no."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        """SIP or HTTP ``status``, and ``retry_after`` in seconds where it gave one."""
        super().__init__(f"{status} {reason}".rstrip())
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class ScriptFailedError(RingtrueError):
    """An expectation was not met."""

    def __init__(self, failure: Failure, detail: str) -> None:
        """``detail`` is one line for a report."""
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail


@dataclass(slots=True)
class CallResult:
    """One call as its caller saw it. Positions are samples of :attr:`recording`."""

    name: str
    failure: Failure | None = None
    detail: str = ""
    refused: RefusedError | None = None
    dialled_at: float = 0.0
    """When it began to call, on the loop's clock."""

    over_at: float = 0.0
    setup_seconds: float | None = None
    """From calling to the answer; None if there was none."""

    answered: int | None = None
    """Position of the moment of the answer: about 0, maybe negative."""

    answered_at: float | None = None
    """The same on the loop's clock."""

    said: list[Said] = field(default_factory=list)
    """What asked for an answer."""

    murmured: list[Said] = field(default_factory=list)
    """What asked for no answer."""

    pressed: list[Span] = field(default_factory=list)
    """When the caller pressed keys, which ask for an answer as words do."""

    held: list[Span] = field(default_factory=list)
    """When the caller had put the agent on hold."""

    kept_quiet: list[Span] = field(default_factory=list)
    """When it was the caller's turn, who said nothing and waited."""

    agent: list[Span] = field(default_factory=list)
    """Stretches of the agent's speech as heard."""

    recording: Recording | None = None
    ended: EndReason | None = None
    """Why the call ended, if it was the far end or the network that ended it."""

    ended_position: int | None = None
    stats: LegStats = field(default_factory=LegStats)
    faults: LineFaults = field(default_factory=LineFaults)

    @property
    def ok(self) -> bool:
        """Whether the script ran to its end."""
        return self.failure is None

    @property
    def excused(self) -> list[Span]:
        """When nobody could expect the agent to speak."""
        murmurs = [said.speech for said in self.murmured]
        return [*murmurs, *self.held, *self.kept_quiet]


class VirtualCaller:
    """What a script can do in an answered call."""

    def __init__(self, line: CallerLine, call: Call, ended: asyncio.Task[EndReason]) -> None:
        """``ended`` is the task that waits for the call's end; the line closes with it."""
        self.line = line
        self._call = call
        self._ended = ended
        self._listen_from = 0
        self.pressed: list[Span] = []
        self.held: list[Span] = []
        self.kept_quiet: list[Span] = []
        self._owed = True
        self.hung_up = False
        """Whether the script ended the call itself."""

    async def say(self, prompt: Prompt, *, murmur: bool = False) -> Said:
        """Speak, and return once the last frame was sent; a ``murmur`` asks for no answer."""
        sending = self.line.say(prompt, murmur=murmur)
        await self._met(sending, prompt.seconds + 5, Failure.BROKEN, "saying")
        if murmur:
            return self.line.murmured[-1]
        self._owed = True
        said = self.line.said[-1]
        self._listen_from = said.speech.end if said.interrupts else said.speech.start
        return said

    async def wait_for_agent_to_start(self, within: float = 10.0) -> int:
        """Wait for speech that began after what was last said; return its first position."""
        start = -1

        def begun() -> bool:
            nonlocal start
            begins = [span.start for span in self.line.detector.spans[-4:]]
            if self.line.detector.speech_start is not None:
                begins.append(self.line.detector.speech_start)
            start = next((begin for begin in begins if begin >= self._listen_from), -1)
            return start >= 0

        since = self.line.position
        await self._until(begun, within, Failure.AGENT_SILENT, "the agent did not begin to speak")
        if not self._owed and start > since:
            self.kept_quiet.append(Span(since, start))
        return start

    async def wait_for_agent_to_finish(
        self, quiet_ms: int = QUIET_MS, within: float = 30.0
    ) -> None:
        """Wait until the agent has been quiet for ``quiet_ms``: longer than its own pauses."""
        quiet = self.line.rate * quiet_ms // 1000
        await self._until(
            lambda: not self.line.agent_speaking and self.line.agent_quiet_samples() >= quiet,
            within,
            Failure.AGENT_ENDLESS,
            "the agent did not come to an end",
        )

    async def hear_out(
        self, start_within: float = 10.0, finish_within: float = 30.0, quiet_ms: int = QUIET_MS
    ) -> None:
        """Wait for the agent to begin, and then to finish and be quiet for ``quiet_ms``."""
        await self.wait_for_agent_to_start(start_within)
        await self.wait_for_agent_to_finish(quiet_ms, finish_within)
        self._owed = False
        self._listen_from = self.line.position

    async def interrupt(self, prompt: Prompt, after_ms: int, within: float = 10.0) -> Said:
        """Wait for the agent to speak for ``after_ms``, then speak over it."""
        await self.wait_for_agent_to_have_spoken(after_ms, within)
        return await self.say(prompt)

    async def wait_for_agent_to_have_spoken(self, after_ms: int, within: float = 10.0) -> None:
        """Wait until the agent speaks, ``after_ms`` after it began."""
        start = await self.wait_for_agent_to_start(within)
        wanted = start + self.line.rate * after_ms // 1000
        await self._until(
            lambda: self.line.position >= wanted and self.line.agent_speaking,
            within + after_ms / 1000,
            Failure.AGENT_SILENT,
            f"the agent did not speak for {after_ms} ms, so it could not be interrupted",
        )

    async def backchannel(self, prompt: Prompt, after_ms: int, within: float = 10.0) -> Said:
        """Wait for the agent to speak for ``after_ms``, then murmur over it."""
        await self.wait_for_agent_to_have_spoken(after_ms, within)
        return await self.say(prompt, murmur=True)

    async def hold(self, seconds: float) -> None:
        """Put the far end on hold for ``seconds``. Raises ``ValueError`` where that can't be."""
        if not isinstance(self._call, Holding):
            raise ValueError(f"a {self._call.transport} call can't be put on hold")
        begun = self.line.position
        await self._hold(self._call, True)
        await self.pause(seconds)
        await self._hold(self._call, False)
        self.held.append(Span(begun, self.line.position))
        self._listen_from = self.line.position

    async def press(self, digits: str) -> None:
        """Dial DTMF digits; returns once they were sent."""
        self._listen_from = begun = self.line.position
        await self._met(
            self.line.press(digits), 5 + 0.2 * len(digits), Failure.BROKEN, "pressing digits"
        )
        self._owed = True
        self.pressed.append(Span(begun, self.line.position))

    async def pause(self, seconds: float) -> None:
        """Say nothing for a while."""
        until = self.line.position + round(seconds * self.line.rate)
        await self._until(
            lambda: self.line.position >= until, seconds + 5, Failure.BROKEN, "pausing"
        )

    @staticmethod
    async def _hold(call: Holding, on: bool) -> None:
        try:
            async with asyncio.timeout(HANGUP_SECONDS):
                await call.hold(on)
        except TimeoutError:
            raise ScriptFailedError(Failure.BROKEN, "the agent's side took no hold") from None

    async def hangup(self) -> None:
        """End the call."""
        self.hung_up = True
        async with asyncio.timeout(HANGUP_SECONDS):
            await self._call.hangup()

    async def expect_hangup(self, within: float = 15.0, insist: Prompt | None = None) -> EndReason:
        """Wait for the far end to end the call.

        To an agent that asks something instead, ``insist`` is said, :data:`INSISTED` times at most.
        """
        if insist is not None:
            try:
                for _ in range(INSISTED):
                    await self.hear_out(within, quiet_ms=ASKED_MS)
                    await self.say(insist)
            except ScriptFailedError as error:
                if error.failure is not Failure.CALL_ENDED:
                    raise
        since = self.line.position
        done, _ = await asyncio.wait([self._ended], timeout=within)
        if not self._owed:
            self.kept_quiet.append(Span(since, self.line.position))
        if not done:
            raise ScriptFailedError(
                Failure.NOT_HUNG_UP, f"the agent did not hang up within {within:.0f} s"
            )
        return self._ended.result()

    async def _until(
        self, predicate: Callable[[], bool], within: float, failure: Failure, detail: str
    ) -> None:
        future = self.line.until(predicate)
        await self._met(future, within, failure, f"{detail} within {within:.0f} s")

    async def _met(
        self, future: asyncio.Future[bool], within: float, failure: Failure, detail: str
    ) -> None:
        try:
            async with asyncio.timeout(within):
                met = await future
        except TimeoutError:
            raise ScriptFailedError(failure, detail) from None
        if not met:
            if self.line.faults.error is not None:
                raise ScriptFailedError(Failure.BROKEN, self.line.faults.error)
            raise ScriptFailedError(Failure.CALL_ENDED, f"the call ended while: {detail}")


Script = Callable[[VirtualCaller], Awaitable[None]]
"""What a caller does once the call is answered."""

Dial = Callable[[], Awaitable[Call]]
"""Places the call: returns once it is answered, raises what keeps it from being."""


async def run_call(
    dial: Dial,
    script: Script,
    clock: MediaClock,
    *,
    name: str = "caller",
    answer_within: float = 10.0,
    max_seconds: float = 180.0,
    background: Callable[[int], Watermarker] | None = None,
    phase: float = 0.0,
) -> CallResult:
    """Place a call, follow ``script``, and report. Only cancellation raises.

    ``clock`` is :func:`~ringtrue.loadtest.line.caller_clock` or one that drifts. ``max_seconds``
    bounds the script; at most :data:`~ringtrue.loadtest.recording.MAX_SECONDS`. ``background``
    makes, for a rate in Hz, what is put under everything the caller sends; ``phase`` is how many
    seconds after the answer its clock begins.
    """
    loop = asyncio.get_running_loop()
    result = CallResult(name, dialled_at=loop.time())
    try:
        return await _run(
            result, dial, script, clock, answer_within, max_seconds, background, phase
        )
    finally:
        result.over_at = loop.time()


async def _run(
    result: CallResult,
    dial: Dial,
    script: Script,
    clock: MediaClock,
    answer_within: float,
    max_seconds: float,
    background: Callable[[int], Watermarker] | None,
    phase: float,
) -> CallResult:
    loop = asyncio.get_running_loop()
    name = result.name
    try:
        async with asyncio.timeout(answer_within):
            call = await dial()
    except TimeoutError:
        return _failed(result, Failure.NOT_ANSWERED, f"no answer within {answer_within:.0f} s")
    except RefusedError as error:
        result.refused = error
        return _failed(result, Failure.NOT_ANSWERED, str(error))
    except (RingtrueError, OSError) as error:
        return _failed(result, Failure.NOT_ANSWERED, str(error))
    result.answered_at = loop.time()
    result.setup_seconds = result.answered_at - result.dialled_at
    line = CallerLine(
        call.leg,
        call.id,
        result.answered_at,
        max_seconds=MAX_SECONDS,
        tick=clock.tick,
        background=background(call.leg.rate) if background is not None else None,
    )
    ended = asyncio.create_task(call.ended(), name=f"{name}: call's end")
    ended.add_done_callback(lambda _: line.close())
    caller = VirtualCaller(line, call, ended)
    try:
        await asyncio.sleep(phase)
        clock.add(line)
        async with asyncio.timeout(min(max_seconds, MAX_SECONDS)):
            await script(caller)
    except ScriptFailedError as error:
        _failed(result, error.failure, error.detail)
    except TimeoutError:
        _failed(result, Failure.TOO_LONG, f"not over after {max_seconds:.0f} s")
    except (RingtrueError, OSError, ValueError) as error:
        _failed(result, Failure.BROKEN, f"{type(error).__name__}: {error}")
    finally:
        clock.remove(line)
        if not caller.hung_up and ended.done() and not ended.cancelled():
            result.ended = ended.result()
            result.ended_position = line.position
        result.pressed, result.held = caller.pressed, caller.held
        result.kept_quiet = caller.kept_quiet
        await _conclude(result, line, call, ended)
    return result


async def _conclude(
    result: CallResult, line: CallerLine, call: Call, ended: asyncio.Task[EndReason]
) -> None:
    line.close()
    if line.origin is not None and result.answered_at is not None:
        result.answered = round((result.answered_at - line.origin) * line.rate)
    result.said = line.said
    result.murmured = line.murmured
    result.agent = line.detector.spans
    result.recording = line.recording
    result.stats = call.leg.stats
    result.faults = line.faults
    try:
        async with asyncio.timeout(HANGUP_SECONDS):
            await call.hangup()
    except TimeoutError:
        log.warning("caller.hangup_timed_out", caller=result.name)
    finally:
        if not ended.done():
            ended.cancel()
        await asyncio.wait([ended])


def _failed(result: CallResult, failure: Failure, detail: str) -> CallResult:
    log.warning("caller.failed", caller=result.name, failure=str(failure))
    result.failure, result.detail = failure, detail
    return result
