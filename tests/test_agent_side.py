"""What a call's page is told, in order."""

from __future__ import annotations

from typing import Any

import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import Frame, TTSStartedFrame, TTSStoppedFrame, TTSTextFrame
from pipecat.utils.text.base_text_aggregator import TextType

from ringtrue.agent.side import Side
from ringtrue.streaming.ports import Call, Direction, EndReason
from ringtrue.streaming.record import Stage, TurnRecord
from ringtrue.telephony.webrtc.events import PageEvent


class PhoneCall:
    """A call with nothing but audio."""

    def __init__(self) -> None:
        self.id = "call-1"
        self.transport = "sip"
        self.direction = Direction.INBOUND
        self.remote = self.local = "sip:a@example.com"
        self.leg = ScriptedLeg()

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        pass

    async def ended(self) -> EndReason:
        return EndReason.CALLER_HUNG_UP


class PageCall(PhoneCall):
    """A call with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[PageEvent] = []

    def notify(self, event: PageEvent) -> None:
        self.events.append(event)

    def take(self) -> list[Any]:
        """The events since the last look, as short tuples."""
        shown = []
        for event in self.events:
            rest = [value for key, value in event.items() if key != "type"]
            shown.append((event["type"], *rest))
        self.events.clear()
        return shown


@pytest.fixture
def call() -> PageCall:
    return PageCall()


@pytest.fixture
def side(call: PageCall) -> Side:
    assert isinstance(call, Call)
    return Side(call)


def word(text: str) -> Frame:
    return TTSTextFrame(text, TextType.WORD)


def test_words_show_as_they_are_heard(side: Side, call: PageCall) -> None:
    assert side.open
    for frame in (TTSStartedFrame(), word("We're"), word("open."), TTSStoppedFrame()):
        side.heard(frame)
    side.stopped(False)
    assert call.take() == [
        ("state", "speaking"),
        ("agent", "We're", 1, False),
        ("agent", "We're open.", 1, False),
        ("state", "listening"),
    ]
    side.heard(TTSStartedFrame())
    side.heard(word("Goodbye."))
    assert call.take() == [("state", "speaking"), ("agent", "Goodbye.", 2, False)]


def test_an_interruption_keeps_what_was_heard(side: Side, call: PageCall) -> None:
    side.heard(TTSStartedFrame())
    side.heard(word("We're"))
    call.take()
    side.stopped(True)
    assert call.take() == [("agent", "We're", 1, True), ("state", "listening")]


def test_an_interruption_before_the_first_word_shows_no_line(side: Side, call: PageCall) -> None:
    side.heard(TTSStartedFrame())
    side.stopped(True)
    assert call.take() == [("state", "speaking"), ("state", "listening")]


def test_the_caller_is_listened_to_then_thought_about(side: Side, call: PageCall) -> None:
    side.caller_said("what", False)
    side.caller_said("what are", False)
    side.caller_said("what are your hours", True)
    assert call.take() == [
        ("partial", "what"),
        ("state", "listening"),
        ("partial", "what are"),
        ("final", "what are your hours"),
        ("state", "thinking"),
    ]
    # a caller who goes on is listened to again
    side.caller_said("on", False)
    assert call.take() == [("partial", "on"), ("state", "listening")]
    side.caller_said("", True)
    assert call.take() == [("final", "")]


def test_words_spoken_into_the_agents_own_change_no_state(side: Side, call: PageCall) -> None:
    side.heard(TTSStartedFrame())
    call.take()
    side.caller_said("yes", True)
    assert call.take() == [("final", "yes")]


def test_a_turns_latency_and_what_it_was_made_of(side: Side, call: PageCall) -> None:
    side.turn(TurnRecord(0, {Stage.FIRST_PHRASE: 1.0, Stage.FIRST_PACKET: 1.1}))
    assert call.take() == []  # a greeting answers nobody
    stages = {
        Stage.SPEECH_ENDED: 10.0,
        Stage.VAD_STOPPED: 10.2,
        Stage.TRANSCRIPT: 10.21,
        Stage.TURN_ENDED: 10.3,
        Stage.FIRST_TOKEN: 10.31,
        Stage.FIRST_PHRASE: 10.33,
        Stage.FIRST_AUDIO: 10.36,
        Stage.FIRST_PACKET: 10.4,
    }
    side.turn(TurnRecord(1, stages))
    ((kind, index, total, parts),) = call.take()
    assert (kind, index, total) == ("latency", 1, 400)
    assert parts == {
        "endpointing": 300,
        "recognizer": 10,
        "language": 10,
        "phrase": 20,
        "synthesis": 30,
        "wire": 40,
        "ttfa": 70,
    }
    in_turn = ("endpointing", "language", "phrase", "synthesis", "wire")
    assert sum(parts[name] for name in in_turn) == total


def test_messages_of_the_graph_are_passed_on(side: Side, call: PageCall) -> None:
    side.message({"type": "anything", "value": 1})
    assert call.take() == [("anything", 1)]


def test_a_call_without_a_page_needs_none() -> None:
    side = Side(PhoneCall())
    assert not side.open
    side.heard(TTSStartedFrame())
    side.heard(word("Hello."))
    side.caller_said("hello", True)
    side.stopped(True)
    side.message({})
