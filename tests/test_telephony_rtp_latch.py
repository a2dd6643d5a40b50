"""The source latch: whose packets are taken, and that nobody else's ever are."""

from __future__ import annotations

import random

import pytest

from ringtrue.telephony.rtp.latch import MAX_CANDIDATES, Address, Latch, LatchPolicy, normalised
from ringtrue.telephony.rtp.packet import RtpPacket

SIGNALLED = ("192.0.2.7", 40000)
RTCP = ("192.0.2.7", 40001)
NAT = ("192.0.2.7", 61234)
PUBLIC = ("203.0.113.50", 5004)
ATTACKER = ("198.51.100.66", 31337)


def packet(number: int, ssrc: int = 1) -> RtpPacket:
    return RtpPacket(0, number & 0xFFFF, number * 160, ssrc, bytes(160))


def latch(policy: LatchPolicy | None = None, trusted: tuple[str, ...] = ()) -> Latch:
    made = Latch(8000, policy)
    made.signal(SIGNALLED, RTCP, 0.0, trusted=trusted)
    return made


def admitted(
    subject: Latch, source: Address, count: int, start: float = 0.1, ssrc: int = 1
) -> list[int]:
    """Sequence numbers taken of ``count`` well-behaved packets from ``source``."""
    return [
        taken.sequence_number
        for n in range(count)
        for taken in subject.admit(source, packet(n, ssrc), start + n * 0.02)
    ]


def test_the_signalled_address_is_taken_at_once() -> None:
    subject = latch()
    assert admitted(subject, SIGNALLED, 3) == [0, 1, 2]
    assert subject.source == subject.destination == SIGNALLED


def test_before_a_latch_media_goes_to_the_signalled_address() -> None:
    assert latch().destination == SIGNALLED
    assert latch().source is None


def test_nothing_is_taken_before_signalling() -> None:
    assert admitted(Latch(8000), SIGNALLED, 10) == []


def test_a_port_behind_a_nat_is_learned_without_losing_a_packet() -> None:
    subject = latch()
    assert admitted(subject, NAT, 6) == [0, 1, 2, 3, 4, 5]
    assert subject.destination == NAT


def test_a_host_signalling_came_from_is_trusted() -> None:
    subject = latch(trusted=(PUBLIC[0],))
    assert admitted(subject, PUBLIC, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("policy", [LatchPolicy(), LatchPolicy(learn="off")])
def test_an_off_path_sender_is_never_learned_however_well_behaved(policy: LatchPolicy) -> None:
    subject = latch(policy)
    assert admitted(subject, ATTACKER, 400) == []
    assert subject.source is None
    assert subject.destination == SIGNALLED
    assert admitted(subject, SIGNALLED, 2, start=8.2) == [0, 1]


def test_an_off_path_sender_gets_nothing_after_the_latch() -> None:
    subject = latch()
    admitted(subject, NAT, 5)
    assert admitted(subject, ATTACKER, 400) == []
    assert admitted(subject, ("192.0.2.7", 40002), 400, start=10.1) == []
    assert subject.destination == NAT
    direct = latch()
    admitted(direct, SIGNALLED, 1)
    assert admitted(direct, NAT, 400) == []
    assert direct.destination == SIGNALLED


def test_learning_can_be_switched_off() -> None:
    assert admitted(latch(LatchPolicy(learn="off")), NAT, 50) == []


def test_any_host_may_be_learned_if_so_configured() -> None:
    assert admitted(latch(LatchPolicy(learn="any")), PUBLIC, 4) == [0, 1, 2, 3]


def test_the_window_closes() -> None:
    assert admitted(latch(), NAT, 50, start=10.001) == []


def test_the_signalled_address_displaces_a_learned_one_in_the_window_only() -> None:
    subject = latch()
    admitted(subject, NAT, 5)
    assert admitted(subject, SIGNALLED, 1, start=0.5) == [0]
    assert subject.source == SIGNALLED
    late = latch()
    admitted(late, NAT, 5)
    assert admitted(late, SIGNALLED, 1, start=11.0) == []


def test_two_rivals_are_both_refused_until_one_is_quiet() -> None:
    subject = latch(LatchPolicy(learn="any"))
    for n in range(100):
        now = 0.1 + n * 0.02
        assert subject.admit(PUBLIC, packet(n), now) == ()
        assert subject.admit(ATTACKER, packet(n, ssrc=2), now + 0.001) == ()
    taken = [n for n in range(100, 200) if subject.admit(PUBLIC, packet(n), 0.1 + n * 0.02)]
    assert taken
    assert taken[0] == pytest.approx(150, abs=2)
    assert subject.source == PUBLIC


OTHER = ("192.0.2.7", 40002)
"""Somebody else behind the same NAT as the caller."""


def together(subject: Latch, start: float, ticks: int, *sources: Address) -> dict[Address, int]:
    """How many packets of each of ``sources``, all sending at once, are taken."""
    taken = dict.fromkeys(sources, 0)
    for n in range(ticks):
        for number, source in enumerate(sources):
            now = start + n * 0.02 + number * 0.001
            first = 1000 * (number + 1) + round(start * 50)
            taken[source] += len(subject.admit(source, packet(first + n, ssrc=number), now))
    return taken


def test_who_comes_first_by_malice_gains_nothing() -> None:
    """A stranger behind the caller's own NAT is latched before the caller sends."""
    subject = latch()
    assert together(subject, 0.1, 10, OTHER)[OTHER] == 10
    assert subject.destination == OTHER
    assert subject.admit_rtcp(("192.0.2.7", 40003), [0], 0)
    taken = together(subject, 0.3, 200, OTHER, NAT)
    assert taken[OTHER] < 10, "until the caller has proved itself"
    assert taken[NAT] == 0
    assert subject.destination == SIGNALLED
    assert subject.rtcp_destination == RTCP
    assert together(subject, 4.3, 100, NAT)[NAT] >= 45, "once the stranger gives up"
    assert subject.destination == NAT


def test_who_comes_first_and_keeps_still_gains_nothing_either() -> None:
    subject = latch()
    together(subject, 0.1, 5, OTHER)
    assert together(subject, 0.2, 200, NAT)[NAT] > 145
    assert subject.destination == NAT


def test_who_comes_second_is_not_heard_and_silences_nobody_after_the_window() -> None:
    subject = latch()
    together(subject, 0.1, 5, NAT)
    taken = together(subject, 10.1, 100, NAT, OTHER)
    assert taken == {NAT: 100, OTHER: 0}


def test_where_the_description_names_its_source_no_other_is_learned() -> None:
    subject = Latch(8000, LatchPolicy(learn="any"))
    subject.signal(SIGNALLED, RTCP, 0.0, ssrcs=[77])
    assert admitted(subject, ATTACKER, 100) == []
    assert admitted(subject, NAT, 5, start=2.2, ssrc=77) == [0, 1, 2, 3, 4]
    assert admitted(subject, ATTACKER, 100, start=2.3) == []
    assert subject.destination == NAT


@pytest.mark.parametrize(
    "numbers",
    [
        [0, 2, 4, 6, 8, 10, 12],
        [0, 1, 2, 0, 1, 2, 0, 1, 2],
        [5, 5, 5, 5, 5, 5],
        [9, 8, 7, 6, 5, 4],
    ],
    ids=["gaps", "restarts", "repeats", "backwards"],
)
def test_inconsistent_sequence_numbers_prove_nothing(numbers: list[int]) -> None:
    subject = latch()
    for at, number in enumerate(numbers):
        assert subject.admit(NAT, packet(number), 0.1 + at * 0.02) == ()


def test_changing_ssrcs_prove_nothing() -> None:
    subject = latch()
    for n in range(30):
        assert subject.admit(NAT, packet(n, ssrc=n), 0.1 + n * 0.02) == ()


def test_a_burst_proves_nothing() -> None:
    subject = latch()
    assert [n for n in range(40) if subject.admit(NAT, packet(n), 0.1 + n * 1e-5)] == []


def test_random_packets_from_everywhere_never_move_the_destination() -> None:
    rng = random.Random(5)
    subject = latch()
    for n in range(5000):
        source = (f"198.51.100.{rng.randrange(1, 255)}", rng.randrange(1, 65536))
        stray = RtpPacket(0, rng.getrandbits(16), rng.getrandbits(32), rng.getrandbits(2), b"x")
        assert subject.admit(source, stray, n * 0.002) == ()
    assert subject.destination == SIGNALLED


def test_few_candidates_are_remembered() -> None:
    subject = latch()
    for port in range(1000, 1000 + 3 * MAX_CANDIDATES):
        subject.admit(("192.0.2.7", port), packet(0), 0.1)
    assert len(subject._candidates) == MAX_CANDIDATES


def test_a_new_address_opens_the_latch_and_the_same_one_does_not() -> None:
    subject = latch()
    admitted(subject, NAT, 5)
    subject.signal(SIGNALLED, RTCP, 60.0)
    assert subject.source == NAT
    moved = ("192.0.2.99", 7000)
    subject.signal(moved, ("192.0.2.99", 7001), 61.0)
    assert subject.destination == moved
    assert admitted(subject, NAT, 5, start=61.1) == []
    assert admitted(subject, moved, 1, start=61.2) == [0]


def test_reports_are_taken_from_the_signalled_address() -> None:
    subject = latch()
    assert subject.admit_rtcp(RTCP, [1], None)
    assert not subject.admit_rtcp(ATTACKER, [1], 1)
    assert subject.rtcp_destination == RTCP


def test_reports_behind_a_nat_need_the_medias_host_and_ssrc() -> None:
    subject = latch()
    report_port = ("192.0.2.7", 61235)
    assert not subject.admit_rtcp(report_port, [1], None)
    admitted(subject, NAT, 5)
    assert not subject.admit_rtcp(ATTACKER, [1], 1)
    assert not subject.admit_rtcp(report_port, [2], 1)
    assert subject.admit_rtcp(report_port, [1], 1)
    assert subject.rtcp_destination == report_port
    assert not subject.admit_rtcp(RTCP, [1], 1), "latched: not even the signalled one"


def test_hosts_are_compared_in_one_spelling() -> None:
    assert normalised(("::ffff:192.0.2.7", 5)) == ("192.0.2.7", 5)
    assert normalised(("2001:DB8:0::1", 5)) == ("2001:db8::1", 5)
    with pytest.raises(ValueError, match=r"example\.net"):
        normalised(("example.net", 5))
