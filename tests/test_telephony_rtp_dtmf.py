"""Telephone events: each digit once, whatever was lost; three end packets sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.streaming.gate import DigitEvent
from ringtrue.telephony.rtp.dtmf import (
    LOST_END,
    MAX_DURATION,
    DtmfReceiver,
    DtmfSender,
    TelephoneEvent,
)
from ringtrue.telephony.rtp.packet import RtpError

Sent = list[tuple[TelephoneEvent, int]]


def steps(digit: str, count: int = 5) -> list[DigitEvent]:
    return [
        DigitEvent(digit, (n + 1) * 160, first=n == 0, last=n == count - 1) for n in range(count)
    ]


def send(script: list[DigitEvent | None], start: int = 1000) -> Sent:
    """Event packets for one step of 20 ms after another."""
    sender = DtmfSender()
    return [
        (TelephoneEvent.parse(packet.payload), packet.timestamp)
        for number, digit in enumerate(script)
        for packet in sender.step(digit, start + number * 160, 160)
    ]


def receive(sent: Sent) -> str:
    receiver = DtmfReceiver()
    digits = "".join(
        receiver.packet(event, timestamp, number * 0.02)
        for number, (event, timestamp) in enumerate(sent)
    )
    return digits + receiver.poll(len(sent) * 0.02 + LOST_END)


def test_a_payload_is_read_and_written() -> None:
    event = TelephoneEvent.parse(bytes.fromhex("0b8a0320"))
    assert event == TelephoneEvent(event=11, end=True, volume=10, duration=800)
    assert event.serialize() == bytes.fromhex("0b8a0320")
    with pytest.raises(RtpError, match="3 bytes"):
        TelephoneEvent.parse(b"abc")


def test_a_digit_is_sent_with_growing_duration_and_three_ends() -> None:
    sender = DtmfSender()
    packets = [
        packet
        for number, step in enumerate(steps("#"))
        for packet in sender.step(step, 1000 + number * 160, 160)
    ]
    events = [TelephoneEvent.parse(packet.payload) for packet in packets]
    assert [event.duration for event in events] == [160, 320, 480, 640, 800, 800, 800]
    assert [event.end for event in events] == [False] * 4 + [True] * 3
    assert [packet.marker for packet in packets] == [True] + [False] * 6
    assert {packet.timestamp for packet in packets} == {1000}
    assert {event.event for event in events} == {11}


def test_a_digit_cut_short_is_ended() -> None:
    sent = send([*steps("5")[:2], None])
    assert [event.end for event, _ in sent] == [False, False, True, True, True]
    assert receive(sent) == "5"


def test_a_digit_displaced_by_the_next_is_ended() -> None:
    assert receive(send([*steps("5")[:2], *steps("6")])) == "56"


def test_the_rest_of_a_digit_whose_beginning_was_not_sent_is_not_sent() -> None:
    assert send(steps("5")[1:]) == []
    assert receive(send([steps("5")[0], None, *steps("5")[2:]])) == "5"


def test_a_long_digit_goes_on_in_segments_and_is_one_digit() -> None:
    sent = send(list(steps("1", 1000)))
    starts = sorted({timestamp for _, timestamp in sent})
    assert [b - a for a, b in zip(starts, starts[1:], strict=False)] == [MAX_DURATION] * 2
    assert max(event.duration for event, _ in sent) <= MAX_DURATION
    assert receive(sent) == "1"


@pytest.mark.parametrize(
    "lost",
    [{0}, {0, 1, 2, 3}, {4, 5}, {4, 5, 6}, {1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5}],
    ids=str,
)
def test_a_digit_survives_the_loss_of_all_its_packets_but_one(lost: set[int]) -> None:
    sent = send(list(steps("7")))
    assert receive([packet for number, packet in enumerate(sent) if number not in lost]) == "7"


def test_the_same_digit_twice_is_two_digits_even_without_ends() -> None:
    sent = send([*steps("9"), None, None, *steps("9")])
    assert receive(sent) == "99"
    assert receive([packet for packet in sent if not packet[0].end]) == "99"


def test_repeats_and_stragglers_are_not_digits() -> None:
    sent = send([*steps("1"), None, *steps("2")])
    assert receive([packet for packet in sent for _ in range(3)]) == "12"
    assert receive([*sent, sent[0], sent[4]]) == "12"


def test_a_lost_end_is_noticed_after_a_while() -> None:
    receiver = DtmfReceiver()
    event, timestamp = send(list(steps("3")))[0]
    assert receiver.packet(event, timestamp, 1.0) == ""
    assert receiver.active
    assert receiver.poll(1.0 + LOST_END - 0.02) == ""
    assert receiver.poll(1.0 + LOST_END) == "3"
    assert not receiver.active
    assert receiver.poll(9.0) == ""


def test_events_that_are_no_digits_are_passed_over() -> None:
    assert (
        receive([(TelephoneEvent(16, True, 10, 400), 1), (TelephoneEvent(99, True, 0, 1), 2)]) == ""
    )


def test_a_sender_that_starts_its_clock_over_is_heard() -> None:
    receiver = DtmfReceiver()
    assert receiver.packet(TelephoneEvent(1, True, 10, 800), 900_000, 0.0) == "1"
    assert receiver.packet(TelephoneEvent(2, True, 10, 800), 100, 30.0) == "2"


@given(st.integers(0, 2**32 - 1))
def test_digits_survive_loss_duplication_and_reordering(seed: int) -> None:
    rng = random.Random(seed)
    digits = "".join(rng.choice("0123456789*#ABCD") for _ in range(5))
    script: list[DigitEvent | None] = []
    for digit in digits:
        script += [*steps(digit, rng.randint(3, 8)), None, None, None]
    sent = send(script, start=rng.getrandbits(20))
    by_digit: dict[int, Sent] = {}
    for packet in sent:
        by_digit.setdefault(packet[1], []).append(packet)
    arrived: Sent = []
    for group in by_digit.values():
        kept = [packet for packet in group if rng.random() > 0.4] or [rng.choice(group)]
        kept += [packet for packet in kept if rng.random() < 0.3]
        rng.shuffle(kept)
        arrived += kept
    assert receive(arrived) == digits
