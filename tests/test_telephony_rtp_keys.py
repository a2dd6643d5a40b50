"""A key is a key, whether told of once, twice or three times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rtp_link import EVENTS, FAR, stream

from ringtrue.telephony.rtp.dtmf import TelephoneEvent
from ringtrue.telephony.rtp.keys import MAX_WAITING, SAME, KeyMerger, Way
from ringtrue.telephony.rtp.packet import RtpPacket


def test_one_way_alone_tells_everything() -> None:
    merger = KeyMerger()
    assert [merger.take(Way.EVENT, key, n * 0.1) for n, key in enumerate("1123")] == [*"1123"]
    assert merger.take(Way.EVENT, "333", 1.0) == "333"


def test_the_same_press_by_other_ways_is_heard_once() -> None:
    merger = KeyMerger()
    assert merger.take(Way.SIGNALLING, "1", 0.0) == "1"
    assert merger.take(Way.EVENT, "1", 0.2) == ""
    assert merger.take(Way.TONE, "1", 0.25) == ""
    assert merger.take(Way.EVENT, "1", 0.4) == "1", "pressed again"
    assert merger.take(Way.SIGNALLING, "1", 0.45) == ""
    assert merger.take(Way.SIGNALLING, "2", 0.5) == "2"


def test_later_it_is_another_press() -> None:
    merger = KeyMerger()
    assert merger.take(Way.EVENT, "1", 0.0) == "1"
    assert merger.take(Way.SIGNALLING, "1", SAME + 0.1) == "1"


@given(st.lists(st.tuples(st.sampled_from("12#"), st.floats(0.08, 1.5)), max_size=40), st.data())
def test_two_ways_tell_what_one_would(
    presses: list[tuple[str, float]], data: st.DataObject
) -> None:
    """Each way keeps its order, and the second lags a little."""
    told: list[tuple[float, int, Way, str]] = []
    now = 0.0
    for number, (key, gap) in enumerate(presses):
        now += gap
        lag = data.draw(st.sampled_from([0.0, 0.02, 0.05]))
        ways = data.draw(st.permutations([Way.EVENT, Way.SIGNALLING]))
        told.append((now, 2 * number, ways[0], key))
        told.append((now + lag, 2 * number + 1, ways[1], key))
    merger = KeyMerger()
    heard = "".join(
        merger.take(way, key, at) for at, _, way, key in sorted(told, key=lambda t: t[:2])
    )
    assert heard == "".join(key for key, _ in presses)
    assert len(merger._presses) <= MAX_WAITING


def test_a_phone_that_sends_events_and_info() -> None:
    call = stream()
    heard = ""
    for tick in range(60):
        now = tick * 0.02
        if tick in (3, 33):
            call.tell("5")
        if tick in range(5, 11) or tick in range(35, 41):
            start = 5 if tick < 30 else 35
            event = TelephoneEvent(5, tick - start == 5, 10, 160 * (tick - start + 1))
            packet = RtpPacket(EVENTS, tick, 1000 * start, 1, event.serialize())
            call.receive(packet.serialize(), FAR, now)
        heard += "".join(call.pull(now).digits)
    assert heard == "55"
