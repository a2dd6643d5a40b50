"""Replaces and REFER between three user agents in virtual time: RFC 3891, RFC 5589's flows."""

from __future__ import annotations

import random

import pytest
from sip_link import ANSWER, OFFER, A, B, Net, Station

from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer, networks
from ringtrue.telephony.sip.events import (
    Answered,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    ReferEnded,
    ReferProgress,
    Referred,
    ReInvite,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.replaces import Replaces, replacing
from ringtrue.telephony.sip.takeover import MAX_ENDED

C = "10.0.0.3"


def known(station: Station) -> None:
    """Every caller has shown who it is: all addresses are trusted."""
    policy = AuthPolicy(realm="x", users={}, trusted=networks(("10.0.0.0/8",)))
    station.ua.auth = AuthServer(policy, is_own=lambda host: True)


class Trio:
    """A transferee, a transferor and a target; each does what a phone would."""

    def __init__(self, seed: int = 0, **network: float) -> None:
        self.net = Net(seed, **network)
        self.transferee = self.net.add("a", A, on_event=self.on_transferee)
        self.transferor = self.net.add("b", B)
        self.target = self.net.add("c", C, on_event=self.on_target)
        known(self.target)
        self.takes = True
        self.answers = 200
        self.placed = ""
        self.referral = ""

    def call(self, target: Station) -> str:
        """The transferor calls it; the handle, once it is answered."""
        ua = self.transferor.ua
        handle = ua.invite(f"sip:x@{target.hop.host}", OFFER, self.net.now)
        for _ in range(40):
            self.net.run(self.net.now + 1.0)
            if any(e.call == handle for e in self.transferor.of(Answered)):
                return handle
        raise AssertionError("no answer")

    def refer(self, call: str, to: str | None = None, consult: str | None = None) -> None:
        ua = self.transferor.ua
        where = to if consult is None else replacing(ua.established(consult).dialog)
        assert where is not None
        ua.refer(call, where, self.net.now, limit=60)

    # -- the transferee: called, and referred ---------------------------------------------------

    def on_transferee(self, station: Station, event: Event) -> None:
        ua, now = station.ua, self.net.now
        match event:
            case IncomingInvite() | ReInvite():
                ua.accept(event.call, ANSWER, now)
            case Referred(target=target, replaces=replaces):
                self.referral = event.call
                referees = ua.established(event.call).referees
                if not self.takes:
                    referees.refuse(603, now)
                    return
                referees.accept(now)
                lines = [] if replaces is None else [("replaces", replaces)]
                self.placed = ua.invite(target, OFFER, now, headers=lines)
            case Answered() if event.call == self.placed:
                ua.established(self.referral).referees.tell(200, "OK", now)
            case Rejected(status=status, reason=reason) if event.call == self.placed:
                ua.established(self.referral).referees.tell(status, reason, now)

    # -- the target: called, and taken over ----------------------------------------------------

    def on_target(self, station: Station, event: Event) -> None:
        ua, now = station.ua, self.net.now
        if isinstance(event, IncomingInvite):
            if self.answers != 200:
                ua.reject(event.call, self.answers, now)
                return
            ua.accept(event.call, ANSWER, now)
            if event.replaces is not None:
                ua.bye(event.replaces, now)

    def at_rest(self) -> None:
        for station in self.net.stations.values():
            for handle in tuple(station.ua._calls):
                station.ua.bye(handle, self.net.now)
        self.net.run(self.net.now + 120)
        assert all(set(s.ua.sizes().values()) == {0} for s in self.net.stations.values())


# -- RFC 5589 ------------------------------------------------------------------------------------


def test_6_1_blind_transfer() -> None:
    """RFC 5589 §6.1: the transferee calls, tells how it went, the transferor hangs up."""
    trio = Trio()
    call = trio.call(trio.transferee)
    trio.refer(call, f"sip:desk@{C}")
    trio.net.run(trio.net.now + 3)
    assert [type(e) for _, e in trio.transferor.events][-1:] == [ReferEnded]
    (ended,) = trio.transferor.of(ReferEnded)
    assert ended == ReferEnded(call, 200, "OK", accepted=True)
    assert trio.transferee.count("NOTIFY") == 2
    (event,) = trio.target.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.replaces is None
    trio.at_rest()


@pytest.mark.parametrize("status", [486, 603, 404])
def test_6_2_the_target_refuses(status: int) -> None:
    """RFC 5589 §6.3: the call there was goes on."""
    trio = Trio()
    trio.answers = status
    call = trio.call(trio.transferee)
    trio.refer(call, f"sip:desk@{C}")
    trio.net.run(trio.net.now + 3)
    (ended,) = trio.transferor.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert (ended.status, ended.heard) == (status, True)
    assert trio.transferor.of(Ended) == []
    trio.at_rest()


@pytest.mark.parametrize("seed", [None, *range(10)])
def test_7_attended_transfer_by_replaces(seed: int | None) -> None:
    """RFC 5589 §7.3, over a good network and bad ones: the target's phone ends our call to it."""
    trio = Trio() if seed is None else Trio(seed, loss=0.2, duplicate=0.1, jitter=0.2)
    call = trio.call(trio.transferee)
    consult = trio.call(trio.target)
    assert trio.transferor.ua.established(consult).replaceable
    trio.refer(call, consult=consult)
    trio.net.run(trio.net.now + 60)
    (ended,) = trio.transferor.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert (ended.call, ended.status, ended.heard) == (call, 200, True)
    assert trio.transferor.of(Ended) == [Ended(consult, EndCause.REMOTE_BYE)]
    first, second = trio.target.of(IncomingInvite)
    assert isinstance(second, IncomingInvite)
    assert second.replaces == first.call
    sent = [m for _, m in trio.transferee.sent if isinstance(m, Request) and m.method == "INVITE"]
    assert sent[0].headers.get("replaces") is not None
    trio.transferor.ua.bye(call, trio.net.now)
    trio.net.run(trio.net.now + 60)
    (kept,) = trio.target.ua._calls  # the transferee and the target talk
    assert kept == second.call
    trio.at_rest()


def test_7_the_transferee_is_refused_and_both_calls_stay() -> None:
    trio = Trio()
    trio.takes = False
    call, consult = trio.call(trio.transferee), trio.call(trio.target)
    trio.refer(call, consult=consult)
    trio.net.run(trio.net.now + 5)
    (ended,) = trio.transferor.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert (ended.status, ended.accepted) == (603, False)
    assert trio.transferor.of(Ended) == []
    trio.at_rest()


def test_7_the_target_hangs_up_before_it_is_replaced() -> None:
    """The transferee's INVITE gets 603 then, and the transferor is told."""
    trio = Trio()
    call, consult = trio.call(trio.transferee), trio.call(trio.target)
    where = replacing(trio.transferor.ua.established(consult).dialog)
    trio.target.ua.bye(trio.target.of(IncomingInvite)[0].call, trio.net.now)
    trio.net.run(trio.net.now + 1)
    trio.transferor.ua.refer(call, where, trio.net.now, limit=60)
    trio.net.run(trio.net.now + 5)
    (ended,) = trio.transferor.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert ended.status == 603
    trio.at_rest()


# -- a far end refers us -------------------------------------------------------------------------


def test_only_one_referral_at_a_time_and_only_good_ones() -> None:
    trio = Trio()
    trio.transferee.on_event = lambda s, e: (
        s.ua.accept(e.call, ANSWER, trio.net.now) if isinstance(e, IncomingInvite) else None
    )
    call = trio.call(trio.transferee)
    dialog = trio.transferor.ua.established(call).dialog

    def send(*lines: tuple[str, str]) -> int:
        request = dialog.request("REFER")
        for name, value in (("contact", f"<sip:b@{B}>"), *lines):
            request.headers.add(name, value)
        ua = trio.transferor.ua
        ua.core.request(request, ua.hop_for(dialog), Nobody(), trio.net.now)
        trio.net.run(trio.net.now + 0.2)
        answers = [
            m.status
            for _, m in trio.transferee.sent
            if isinstance(m, Response) and m.cseq_method == "REFER" and m.cseq == request.cseq
        ]
        return answers[-1] if answers else 0

    assert send() == 400
    assert send(("refer-to", "<sip:a@b>"), ("refer-to", "<sip:c@d>")) == 400
    assert send(("refer-to", "<tel:+12015550123>")) == 416
    assert send(("refer-to", "<sip:a@b;method=BYE>")) == 403
    assert send(("refer-to", "<sip:a@b?Replaces=nonsense>")) == 400
    assert trio.transferee.of(Referred) == []
    assert send(("refer-to", "<sip:a@b?Subject=x>"), ("refer-sub", "false")) == 0
    (event,) = trio.transferee.of(Referred)
    assert isinstance(event, Referred)
    assert (event.target, event.replaces) == ("sip:a@b", None)
    assert send(("refer-to", "<sip:e@f>")) == 491
    referees = trio.transferee.ua.established(event.call).referees
    referees.accept(trio.net.now)
    trio.net.run(trio.net.now + 1)
    answer = next(m for _, m in trio.transferee.sent if isinstance(m, Response) and m.status == 202)
    assert answer.headers.get("refer-sub") == "false"  # RFC 4488
    referees.tell(200, "OK", trio.net.now)
    trio.net.run(trio.net.now + 1)
    assert trio.transferee.count("NOTIFY") == 0
    assert send(("refer-to", "<sip:e@f>")) == 0  # the next one may come
    trio.at_rest()


def test_progress_is_told_until_the_end() -> None:
    trio = Trio()
    trio.target.on_event = lambda s, e: (
        s.ua.ring(e.call, trio.net.now) if isinstance(e, IncomingInvite) else None
    )
    call = trio.call(trio.transferee)
    trio.refer(call, f"sip:desk@{C}")
    trio.net.run(trio.net.now + 1)
    trio.transferee.ua.established(trio.referral).referees.tell(180, "Ringing", trio.net.now)
    trio.net.run(trio.net.now + 1)
    assert trio.transferor.of(ReferProgress) == [ReferProgress(call, 180, "Ringing")]
    trio.transferee.ua.established(trio.referral).referees.tell(486, "Busy", trio.net.now)
    trio.transferee.ua.cancel(trio.placed, trio.net.now)
    trio.net.run(trio.net.now + 1)
    (ended,) = trio.transferor.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert ended.status == 486
    trio.at_rest()


class Nobody:
    """Wants no answer."""

    def on_response(self, request: Request, response: Response, now: float) -> None: ...

    def on_failure(self, request: Request, status: int, now: float) -> None: ...


# -- RFC 3891 §3 ---------------------------------------------------------------------------------


class Robbed:
    """B has a call with A; C may send an INVITE with Replaces to B."""

    def __init__(self) -> None:
        self.net = Net()
        self.a = self.net.add("a", A)
        self.b = self.net.add("b", B, on_event=self.accept)
        self.c = self.net.add("c", C)
        self.taken: list[str | None] = []

    def accept(self, station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            self.taken.append(event.replaces)
            station.ua.accept(event.call, ANSWER, self.net.now)

    def called(self) -> Replaces:
        """A calls B; what replaces that call at B."""
        call = self.a.ua.invite(f"sip:b@{B}", OFFER, self.net.now)
        self.net.run(self.net.now + 1)
        dialog = self.a.ua.established(call).dialog
        return Replaces(dialog.call_id, dialog.remote.tag or "", dialog.local.tag or "")

    def try_with(self, *values: str, thief: Station | None = None) -> int:
        """What an INVITE with Replaces gets."""
        station = thief or self.c
        lines = [("replaces", value) for value in values]
        call = station.ua.invite(f"sip:b@{B}", OFFER, self.net.now, headers=lines)
        self.net.run(self.net.now + 1)
        for event in station.of(Rejected):
            if isinstance(event, Rejected) and event.call == call:
                return event.status
        assert any(e.call == call for e in station.of(Answered))
        return 200


def test_a_known_far_end_takes_a_call_over() -> None:
    robbed = Robbed()
    known(robbed.b)
    wanted = robbed.called()
    assert robbed.try_with(str(wanted)) == 200
    assert robbed.taken == [None, wanted.to_tag]


def test_who_is_not_known_may_replace_only_a_call_of_its_own_host() -> None:
    robbed = Robbed()
    wanted = robbed.called()
    assert robbed.try_with(str(wanted)) == 403
    assert robbed.try_with(str(wanted), thief=robbed.a) == 200
    assert robbed.taken == [None, wanted.to_tag]


def test_nobody_may_where_it_is_switched_off() -> None:
    robbed = Robbed()
    known(robbed.b)
    robbed.b.ua.takeovers.allowed = False
    assert robbed.try_with(str(robbed.called())) == 403


def test_what_is_not_there() -> None:
    """481 for what never was, 603 for what is over, 486 for what is answered already."""
    robbed = Robbed()
    known(robbed.b)
    wanted = robbed.called()
    for other in (
        Replaces("other", wanted.to_tag, wanted.from_tag),
        Replaces(wanted.call_id, "other", wanted.from_tag),
        Replaces(wanted.call_id, wanted.to_tag, "other"),
    ):
        assert robbed.try_with(str(other)) == 481
    early = Replaces(wanted.call_id, wanted.to_tag, wanted.from_tag, early_only=True)
    assert robbed.try_with(str(early)) == 486
    robbed.b.ua.bye(wanted.to_tag, robbed.net.now)
    assert robbed.try_with(str(wanted)) == 603
    robbed.net.run(robbed.net.now + 60)
    assert robbed.try_with(str(wanted)) == 603
    assert robbed.taken == [None]
    for _ in range(MAX_ENDED):
        usage = robbed.b.ua.invite(f"sip:nobody@{C}", OFFER, robbed.net.now)
        robbed.b.ua.cancel(usage, robbed.net.now)
    robbed.net.run(robbed.net.now + 60)
    assert robbed.try_with(str(wanted)) == 603  # what was never answered takes no place there


def test_a_call_that_rings_here_is_not_replaced() -> None:
    robbed = Robbed()
    known(robbed.b)
    robbed.b.on_event = None
    robbed.a.ua.invite(f"sip:b@{B}", OFFER, robbed.net.now)
    robbed.net.run(1.0)
    (event,) = robbed.b.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    request = event.request
    wanted = Replaces(request.call_id, event.call, request.from_.tag or "")
    assert robbed.try_with(str(wanted)) == 481


def test_a_call_of_ours_that_rings_may_be_picked_up() -> None:
    """RFC 3891 §7.1: an early dialog that we began; the far end is to be known."""
    robbed = Robbed()
    robbed.a.on_event = lambda s, e: (
        s.ua.ring(e.call, robbed.net.now) if isinstance(e, IncomingInvite) else None
    )
    call = robbed.b.ua.invite(f"sip:a@{A}", OFFER, robbed.net.now)
    robbed.net.run(1.0)
    (event,) = robbed.a.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    wanted = Replaces(event.request.call_id, call, event.call, early_only=True)
    assert robbed.try_with(str(wanted)) == 403
    known(robbed.b)
    assert robbed.try_with(str(wanted)) == 200
    assert robbed.taken == [call]


@pytest.mark.parametrize(
    "values",
    [("",), ("x",), ("x;to-tag=1",), ("x;to-tag=1;from-tag=",), ("x y;to-tag=1;from-tag=2",)],
)
def test_a_bad_header_is_400(values: tuple[str, ...]) -> None:
    robbed = Robbed()
    assert robbed.try_with(*values) == 400


def test_two_of_them_are_400() -> None:
    robbed = Robbed()
    wanted = robbed.called()
    assert robbed.try_with(str(wanted), str(wanted)) == 400


def test_in_another_request_it_is_400() -> None:
    robbed = Robbed()
    wanted = robbed.called()
    dialog = robbed.a.ua._calls[wanted.from_tag].dialog  # type: ignore[attr-defined]
    request = dialog.request("INFO")
    request.headers.add("replaces", str(wanted))
    robbed.a.ua.core.request(request, robbed.a.ua.hop_for(dialog), Nobody(), robbed.net.now)
    robbed.net.run(robbed.net.now + 1)
    assert robbed.b.lines()[-1][1] == "400 INFO"


def test_any_header_is_answered() -> None:
    rng = random.Random(3)
    robbed = Robbed()
    wanted = robbed.called()
    text = str(wanted)
    for _ in range(300):
        at, length = rng.randrange(len(text)), rng.randrange(4)
        junk = "".join(rng.choice(';=,"<>@ a0%') for _ in range(rng.randrange(3)))
        status = robbed.try_with(text[:at] + junk + text[at + length :])
        assert status in (200, 400, 403, 481)
