"""Whatever a far end answers, a placed call has one outcome and leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from sip_callee import SDP, Callee, Message, add_callee, empty
from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station

from ringtrue.telephony.sip.events import Answered, Ended, Event, ReInvite, Rejected
from ringtrue.telephony.sip.message import Request

TAGS = ("one", "two", "")


@dataclass(frozen=True)
class Move:
    """Something the far end does, ``after`` seconds after what it did before."""

    what: str
    status: int
    tag: str
    number: int
    body: bool
    after: float


moves = st.builds(
    Move,
    what=st.sampled_from(["answer", "answer", "answer", "reliable", "UPDATE", "BYE", "PRACK"]),
    status=st.sampled_from([100, 180, 183, 199, 200, 200, 299, 302, 401, 422, 486, 491, 503, 699]),
    tag=st.sampled_from(TAGS),
    number=st.integers(1, 4),
    body=st.booleans(),
    after=st.sampled_from([0.0, 0.01, 0.4, 5.0]),
)


def play(callee: Callee, invite: Request, move: Move) -> None:
    body = ANSWER if move.body else b""
    lines = SDP if move.body else ()
    if move.what == "answer":
        callee.answer(invite, move.status, *lines, tag=move.tag, body=body)
    elif move.what == "reliable":
        extra = ("Require: 100rel", f"RSeq: {move.number}", "Min-SE: 9x", *lines)
        callee.answer(invite, min(move.status, 199), *extra, tag=move.tag, body=body)
    else:
        extra = ("RAck: 1 1 INVITE", "Session-Expires: 90;refresher=uac", *lines)
        callee.request(move.what, invite, move.number, *extra, tag=move.tag or "x", body=body)


def accepting(station: Station, event: Event) -> None:
    if isinstance(event, ReInvite):
        station.ua.accept(event.call, ANSWER, station.net.now)


@settings(max_examples=80)
@given(st.lists(moves, max_size=12), st.sampled_from([None, 0.0, 0.02, 1.0, 6.0]))
def test_one_outcome_and_nothing_left(sequence: list[Move], cancel_at: float | None) -> None:
    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "INVITE" and callee.methods().count("INVITE") == 1:
            at = 0.0
            for move in sequence:
                at += move.after
                callee.after(at, lambda move=move: play(callee, message, move))
        elif message.method in ("PRACK", "BYE", "CANCEL"):
            callee.answer(message, 200)

    net = Net()
    a = net.add("a", A, on_event=accepting)
    add_callee(net, B, script)
    call = a.ua.invite(TARGET, OFFER, net.now, ring_limit=60.0)
    if cancel_at is not None:
        net.run(cancel_at)
        a.ua.cancel(call, net.now)
    net.run(200.0)
    outcomes = a.of(Answered) + a.of(Rejected)
    assert len(outcomes) == 1, outcomes
    assert {event.call for _, event in a.events} == {call}
    if a.of(Answered):
        assert cancel_at is None or not a.of(Rejected)
        a.ua.bye(call, net.now)
    net.run(500.0)
    assert len(a.of(Ended)) == len(a.of(Answered))
    empty(a)
