"""What is said of a source: RFC 3550's arithmetic, with literal times."""

from __future__ import annotations

import pytest

from ringtrue.telephony.rtp.reception import Reception, round_trip
from ringtrue.telephony.rtp.rtcp import ReportBlock


def test_an_even_stream_has_no_jitter_and_no_loss() -> None:
    reception = Reception(1, 8000)
    for number in range(100):
        reception.packet(number, number * 160, number * 0.02)
    assert reception.jitter == pytest.approx(0, abs=1e-9)
    assert (reception.expected, reception.lost) == (100, 0)


def test_jitter_follows_the_rfcs_filter() -> None:
    reception = Reception(1, 8000)
    reception.packet(0, 0, 0.0)
    reception.packet(1, 160, 0.030)  # 10 ms late: 80 units
    assert reception.jitter == pytest.approx(80 / 16 / 8000)
    reception.packet(2, 320, 0.040)  # on time again: 80 units the other way
    assert reception.jitter == pytest.approx((5 + (80 - 5) / 16) / 8000)


def test_sequence_numbers_are_extended_over_the_wrap() -> None:
    reception = Reception(1, 8000)
    extended = [reception.packet(n & 0xFFFF, None, 0.0) for n in range(65_530, 65_545)]
    assert extended == list(range(65_530, 65_545))
    assert reception.expected == 15
    assert reception.packet(65_533, None, 0.0) == 65_533


def test_fraction_lost_is_of_the_interval() -> None:
    reception = Reception(1, 8000)
    for number in [0, 1, 2, 4]:
        reception.packet(number, None, 0.0)
    first = reception.report(1.0)
    assert (first.fraction_lost, first.cumulative_lost) == (256 // 5, 1)
    for number in range(5, 15):
        reception.packet(number, None, 0.0)
    second = reception.report(2.0)
    assert (second.fraction_lost, second.cumulative_lost) == (0, 1)
    assert second.highest_sequence == 14


def test_duplicates_make_the_loss_negative_and_the_fraction_zero() -> None:
    reception = Reception(1, 8000)
    for number in [0, 0, 0, 1]:
        reception.packet(number, None, 0.0)
    report = reception.report(1.0)
    assert (report.fraction_lost, report.cumulative_lost) == (0, -2)


def test_a_sender_that_starts_over_has_lost_nothing() -> None:
    reception = Reception(1, 8000)
    for number in [10, 11, 40_000, 40_001]:
        reception.packet(number, None, 0.0)
    assert (reception.expected, reception.lost) == (4, 0)


def test_a_timestamp_jump_leaves_the_jitter_alone() -> None:
    reception = Reception(1, 8000)
    reception.packet(0, 0, 0.0)
    reception.packet(1, 4_000_000_000, 0.02)
    assert reception.jitter == 0


def test_round_trip_of_the_rfcs_example() -> None:
    # RFC 3550 figure 2: A = 0xb710:8000, LSR = 0xb705:2000, DLSR = 0x0005:4000
    block = ReportBlock(1, 0, 0, 0, 0, 0xB7052000, 0x00054000)
    assert round_trip(block, 0xB7108000 << 16) == pytest.approx(6.125)


def test_no_round_trip_without_a_sender_report_or_with_nonsense() -> None:
    assert round_trip(ReportBlock(1, 0, 0, 0, 0, 0, 0), 1 << 40) is None
    assert round_trip(ReportBlock(1, 0, 0, 0, 0, 0xB7108001, 0), 0xB7108000 << 16) is None


def test_a_report_answers_the_last_sender_report() -> None:
    reception = Reception(1, 8000)
    reception.packet(0, 0, 0.0)
    reception.sender_report(0xAAAA_BBBB_CCCC_DDDD, 10.0)
    report = reception.report(10.5)
    assert (report.last_sr, report.delay_since_last_sr) == (0xBBBBCCCC, 32_768)
