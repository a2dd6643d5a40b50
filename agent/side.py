"""What a call's side channel (the page's data channel) is told, where it has one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from pipecat.frames.frames import Frame, TTSStartedFrame, TTSStoppedFrame, TTSTextFrame

from ringtrue.streaming.ports import Call
from ringtrue.streaming.record import INTERVALS, TurnRecord
from ringtrue.telephony.webrtc import events


@runtime_checkable
class Notified(Protocol):
    """A call with a side channel."""

    def notify(self, event: events.PageEvent) -> None:
        """Send one event; never blocks."""
        ...


class Side:
    """Turns what happens in a call into events for its page."""

    def __init__(self, call: Call) -> None:
        """Use ``call``'s side channel, if any; else everything here does nothing."""
        self._call = call if isinstance(call, Notified) else None
        self._turn = 0
        self._words: list[str] = []
        self._state = ""
        self._context: str | None = None
        """The utterance being heard; it begins again where another voice goes on with it."""

    @property
    def open(self) -> bool:
        """Whether anybody listens."""
        return self._call is not None

    def message(self, event: Any) -> None:
        """Pass an event on."""
        if self._call is not None:
            self._call.notify(event)

    def caller_said(self, text: str, final: bool) -> None:
        """What was recognized, so far or finally."""
        self.message(events.final(text) if final else events.partial(text))
        if self._state != "speaking":
            self._show("thinking" if final and text else "listening")

    def heard(self, frame: Frame) -> None:
        """The caller has heard everything up to ``frame``."""
        if isinstance(frame, TTSStartedFrame):
            if frame.context_id is None or frame.context_id != self._context:
                self._turn += 1
                self._words.clear()
            self._context = frame.context_id
            self._show("speaking")
        elif isinstance(frame, TTSStoppedFrame):
            self._context = None
        elif isinstance(frame, TTSTextFrame):
            self._words.append(frame.text)
            self.message(events.agent(" ".join(self._words), turn=self._turn))

    def stopped(self, interrupted: bool) -> None:
        """The agent stopped speaking."""
        if interrupted and self._words:
            text = " ".join(self._words)
            self.message(events.agent(text, turn=self._turn, interrupted=True))
        self._show("listening")

    def turn(self, turn: TurnRecord) -> None:
        """A turn's latencies, once it has all of them."""
        latency = turn.interval("turn_latency")
        if latency is None:
            return
        stages = {name: turn.interval(name) for name in INTERVALS if name != "turn_latency"}
        known = {name: value * 1000 for name, value in stages.items() if value is not None}
        self.message(events.latency(turn.index, latency * 1000, known))

    def _show(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.message(events.state(state))
