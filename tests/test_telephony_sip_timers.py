"""RFC 3261's timers A to K as two user agents keep them (Table 4), over a network that loses what
a test says, and doubles and reorders the rest. Timer C is a proxy's; ``ring_limit`` is our like.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station, incoming

from ringtrue.telephony.sip.events import (
    Answered,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, parse_message
from ringtrue.telephony.sip.transport import Hop

T1, T2, T4 = 0.5, 4.0, 5.0
EVER = 10**6
NEAR = 0.3
"""How late something may be for the network's delay alone."""

pytestmark = pytest.mark.parametrize("seed", range(4))


@dataclass
class Line:
    """Alice calls Bob, who answers, or refuses with ``status``; ``lost`` says how many of each
    message the network loses before one arrives."""

    seed: int
    status: int = 200
    lost: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        self.net = Net(self.seed, duplicate=0.3, jitter=0.2)
        self.left = dict(self.lost)
        self.alice, self.bob = self.net.add("a", A), self.net.add("b", B, on_event=self._bob)
        self.net.tap = self._tap
        self.call = self.alice.ua.invite(TARGET, OFFER, 0.0, ring_limit=100.0)

    def _bob(self, station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite) and self.status == 200:
            station.ua.accept(event.call, ANSWER, self.net.now)
        elif isinstance(event, IncomingInvite):
            station.ua.reject(event.call, self.status, self.net.now)

    def _tap(self, station: Station, hop: Hop, data: bytes) -> bool:
        message = parse_message(data)
        kind = message.method if isinstance(message, Request) else f"{message.status}"
        name = kind if isinstance(message, Request) else f"{kind} {message.cseq_method}"
        if self.left.get(name, 0) <= 0:
            return True
        self.left[name] -= 1
        return False

    def lose(self, name: str, count: int = EVER) -> None:
        self.left[name] = count

    def up(self) -> Line:
        """The same line, with a call that is established and at rest."""
        self.net.run(40.0)
        assert self.alice.of(Answered) == [Answered(self.call, ANSWER)]
        assert self.sizes() == (0, 0)
        return self

    def hung_up(self) -> float:
        """Alice says BYE; when."""
        self.alice.ua.bye(self.call, self.net.now)
        return self.net.now

    def times(self, station: Station, name: str) -> list[float]:
        return [at for at, line in station.lines() if line == name]

    def sizes(self) -> tuple[int, int]:
        """Client transactions of Alice's, server transactions of Bob's."""
        return self.alice.ua.sizes()["client"], self.bob.ua.sizes()["server"]


def doubling(times: list[float], *, most: float = EVER) -> None:
    """T1, then twice as long each time, ``most`` at most."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx([min(T1 * 2**n, most) for n in range(len(gaps))])


def test_a_the_invite_is_sent_again(seed: int) -> None:
    line = Line(seed, lost=(("INVITE", 3),))
    line.net.run(60.0)
    times = line.times(line.alice, "INVITE")
    assert len(times) == 4
    doubling(times)
    assert len(line.bob.of(IncomingInvite)) == 1
    assert line.alice.of(Answered) == [Answered(line.call, ANSWER)]


def test_b_the_invite_is_given_up(seed: int) -> None:
    line = Line(seed, lost=(("INVITE", EVER),))
    line.net.run(64 * T1 - 0.01)
    assert line.alice.events == []
    line.net.run(64 * T1)
    (event,) = line.alice.of(Rejected)
    assert isinstance(event, Rejected)
    assert (event.status, event.heard) == (408, False)
    doubling(line.times(line.alice, "INVITE"))
    assert line.sizes() == (0, 0)


def test_d_a_refusal_is_acknowledged_each_time_it_comes(seed: int) -> None:
    """The client stays for 32 s after the refusal, however many of its ACKs were lost."""
    line = Line(seed, status=486, lost=(("ACK", 4),))
    line.net.run(30.0)
    assert len(line.times(line.alice, "ACK")) >= 5
    assert len(line.alice.of(Rejected)) == 1
    assert line.sizes()[0] == 1
    line.net.run(32.0 + 2 * NEAR)
    assert line.sizes()[0] == 0


def test_e_a_bye_is_sent_again(seed: int) -> None:
    line = Line(seed).up()
    line.lose("BYE", 5)
    line.hung_up()
    line.net.run(line.net.now + 60.0)
    times = line.times(line.alice, "BYE")
    assert len(times) == 6
    doubling(times, most=T2)
    assert line.bob.of(Ended) == [Ended(incoming(line.bob), EndCause.REMOTE_BYE)]


def test_f_a_bye_is_given_up(seed: int) -> None:
    line = Line(seed).up()
    line.lose("BYE")
    began = line.hung_up()
    line.net.run(began + 64 * T1 - 0.01)
    assert line.alice.of(Ended) == []
    line.net.run(began + 64 * T1)
    assert line.alice.of(Ended) == [Ended(line.call, EndCause.LOCAL_BYE)]
    assert line.sizes()[0] == 0


def test_g_a_refusal_is_sent_again_until_its_ack(seed: int) -> None:
    line = Line(seed, status=486, lost=(("486 INVITE", 3), ("ACK", 3)))
    line.net.run(80.0)
    times = sorted(set(line.times(line.bob, "486 INVITE")))
    assert len(times) >= 4
    by_timer = [at for at in times if _on_grid(at - times[0])]
    assert len(by_timer) >= 4
    doubling(by_timer, most=T2)
    assert times[-1] - times[0] < 32.0, "it ended with the ACK"


def _on_grid(after: float) -> bool:
    """Whether Timer G fires so long after the first; else an INVITE that came twice was answered
    (§17.2.1)."""
    due, gap = 0.0, T1
    while due < after - 1e-6:
        due, gap = due + gap, min(2 * gap, T2)
    return abs(due - after) < 1e-6


def test_h_without_an_ack_the_refusal_is_given_up(seed: int) -> None:
    line = Line(seed, status=486, lost=(("ACK", EVER),))
    line.net.run(64 * T1 - 1.0)
    assert line.sizes()[1] == 1
    line.net.run(64 * T1 + NEAR)
    assert line.sizes()[1] == 0
    said = len(line.bob.sent)
    line.net.run(120.0)
    assert len(line.bob.sent) == said


def test_i_acks_that_come_again_are_absorbed(seed: int) -> None:
    line = Line(seed, status=486)
    line.net.run(2.0)
    assert line.sizes()[1] == 1, "confirmed, and kept for T4"
    said = len(line.bob.sent)
    ack = next(m for _, m in line.alice.sent if isinstance(m, Request) and m.method == "ACK")
    for _ in range(3):
        line.net.inject(ack.encode(), line.alice.hop, line.bob.hop)
        line.net.run(line.net.now + 0.5)
    assert len(line.bob.sent) == said
    line.net.run(T4 + 2 * T1 + 2 * NEAR)
    assert line.sizes()[1] == 0


def test_j_a_bye_that_comes_again_gets_the_same_answer(seed: int) -> None:
    line = Line(seed).up()
    line.lose("200 BYE", 4)
    began = line.hung_up()
    line.net.run(began + 20.0)
    assert len(line.times(line.alice, "BYE")) >= 3
    answers = [m for _, m in line.bob.sent if not isinstance(m, Request) and m.cseq_method == "BYE"]
    assert len({answer.encode() for answer in answers}) == 1
    assert len(line.bob.of(Ended)) == 1
    assert line.sizes()[1] == 1
    line.net.run(began + 64 * T1 + NEAR)
    assert line.sizes()[1] == 0
    bye = next(m for _, m in line.alice.sent if isinstance(m, Request) and m.method == "BYE")
    line.net.inject(bye.encode(), line.alice.hop, line.bob.hop)
    line.net.run(line.net.now + 1.0)
    assert line.bob.lines()[-1][1] == "481 BYE", "it is forgotten"


def test_k_answers_that_come_again_are_absorbed(seed: int) -> None:
    line = Line(seed).up()
    began = line.hung_up()
    line.net.run(began + 2.0)
    assert len(line.alice.of(Ended)) == 1
    assert line.sizes()[0] == 1, "completed, and kept for T4"
    answer = next(m for _, m in line.bob.sent if m.cseq_method == "BYE")
    for _ in range(3):
        line.net.inject(answer.encode(), line.bob.hop, line.alice.hop)
        line.net.run(line.net.now + 0.5)
    assert len(line.alice.of(Ended)) == 1
    line.net.run(began + T4 + 2 * NEAR)
    assert line.sizes()[0] == 0
