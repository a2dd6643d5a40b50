"""What server and page say to each other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.outbox import MAX_BUFFERED, MAX_EVENTS, Outbox


class Channel:
    def __init__(self, state: str = "open") -> None:
        self.readyState = state
        self.bufferedAmount = 0
        self.sent: list[dict[str, object]] = []

    def send(self, data: str) -> None:
        self.sent.append(json.loads(data))


def test_the_page_presses_keys_and_hangs_up() -> None:
    assert events.parse('{"type":"dtmf","digit":"5"}') == events.KeyPressed("5")
    assert events.parse('{"type":"hangup"}') == events.HungUp()


@pytest.mark.parametrize(
    "message",
    ["", "[]", "null", "{}", '{"type":"dtmf"}', '{"type":"dtmf","digit":"12"}', b"{}", "x" * 600]
    + ['{"type":"dtmf","digit":["1"]}', "[" * 500, '{"type":["hangup"]}'],
)
def test_anything_else_is_one_documented_error(message: str | bytes) -> None:
    with pytest.raises(events.PageMessageError, match="allowed|JSON|neither"):
        events.parse(message)


@given(st.text() | st.binary())
def test_no_message_raises_anything_else(message: str | bytes) -> None:
    try:
        assert isinstance(events.parse(message), events.KeyPressed | events.HungUp)
    except events.PageMessageError:
        return


def test_events_keep_their_order_and_wait_for_the_channel() -> None:
    outbox, channel = Outbox(), Channel("connecting")
    outbox.put(events.state("answered"))
    outbox.attach(channel)
    assert channel.sent == []
    channel.readyState = "open"
    outbox.put(events.partial("hel"))
    outbox.put(events.final("hello"))
    assert [event["type"] for event in channel.sent] == ["state", "partial", "final"]


def test_a_page_that_does_not_read_costs_bounded_memory() -> None:
    outbox, channel = Outbox(), Channel()
    channel.bufferedAmount = MAX_BUFFERED
    outbox.attach(channel)
    for turn in range(MAX_EVENTS + 50):
        outbox.put(events.latency(turn, 250.4, {"wire": 3.6}))
    assert channel.sent == []
    assert outbox.dropped == 50
    channel.bufferedAmount = 0
    outbox.flush()
    assert len(channel.sent) == MAX_EVENTS
    assert channel.sent[0] == {"type": "latency", "turn": 50, "ms": 250, "stages": {"wire": 4}}
