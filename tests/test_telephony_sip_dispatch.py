"""Which worker a message is for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sip_texts import request, response

from ringtrue.telephony.sip.dispatch import (
    BRIEF_SECONDS,
    NOBODY,
    UNANSWERED_SECONDS,
    CallTable,
    Dispatcher,
    Share,
)
from ringtrue.telephony.sip.peek import Peek, peek
from ringtrue.telephony.sip.transport import Hop

SOURCE = Hop("udp", "192.0.2.1", 5060)


def dispatcher(*owners: int, pinned: bool = False) -> Dispatcher:
    made = Dispatcher(pinned=lambda host: pinned)
    made.shares = {owner: Share() for owner in owners}
    return made


def seen(data: bytes) -> Peek:
    looked = peek(data)
    assert looked is not None
    return looked


def given_to(it: Dispatcher, data: bytes, *, host: str = "192.0.2.1", now: float = 0.0) -> int:
    """Pass ``data`` on as a front does."""
    looked = seen(data)
    owner = it.owner_of(looked, host)
    call = it.table.get(looked.call_id)
    if owner == NOBODY:
        return owner
    if call is None:
        call = it.table.open(looked.call_id, owner, now)
        it.shares[owner].give(begins_call=True)
    call.received(looked, data, SOURCE)
    it.table.touched(call, now)
    return owner


def test_new_calls_go_to_the_least_loaded() -> None:
    it = dispatcher(1, 2)
    it.reported(1, 5, is_open=True, heard=0)
    it.reported(2, 3, is_open=True, heard=0)
    owners = [given_to(it, request(call_id=f"c{number}")) for number in range(4)]
    assert owners[:2] == [2, 2]
    assert sorted(owners[2:]) == [1, 2]


def test_what_a_worker_says_counts_for_what_it_had_heard() -> None:
    it = dispatcher(1)
    for number in range(3):
        given_to(it, request(call_id=f"c{number}"))
    assert it.shares[1].load == 3
    it.reported(1, 1, is_open=True, heard=1)  # two were still on their way
    assert it.shares[1].load == 3
    it.reported(1, 3, is_open=True, heard=3)
    assert it.shares[1].load == 3
    it.reported(9, 3, is_open=True, heard=3)  # it is gone
    assert 9 not in it.shares


def test_a_full_worker_gets_none_while_another_has_room() -> None:
    it = dispatcher(1, 2)
    it.reported(1, 0, is_open=False, heard=0)
    it.reported(2, 9, is_open=True, heard=0)
    assert given_to(it, request()) == 2
    it.reported(2, 9, is_open=False, heard=0)
    assert given_to(it, request(call_id="c2")) == 1  # it says 503 itself
    assert it.choose(seen(request(call_id="c3")), "x", but=1) == 2


def test_everything_of_a_call_goes_where_the_call_is() -> None:
    it = dispatcher(1, 2, 3)
    first = given_to(it, request())
    for _ in range(5):
        given_to(it, request(call_id="busy"))
    for again in (
        request(),
        request("CANCEL"),
        request("ACK", to_tag="ours", host="198.51.100.9"),
        request("BYE", to_tag="ours", cseq=2, host="203.0.113.5"),
        response(200, method="BYE"),
    ):
        assert given_to(it, again, host="203.0.113.5") == first


def test_what_belongs_to_no_call_is_nobodys() -> None:
    it = dispatcher(1, 2)
    for stray in (
        request("BYE", to_tag="gone"),
        request("OPTIONS"),
        request("CANCEL"),
        request(to_tag="gone"),
        response(200),
    ):
        assert given_to(it, stray) == NOBODY
    assert it.owner_of(None, "192.0.2.1") == NOBODY
    assert given_to(dispatcher(), request()) == NOBODY
    assert len(it.table) == 0


def test_who_has_to_prove_who_he_is_always_meets_the_same_worker() -> None:
    it = dispatcher(1, 2, 3, pinned=True)
    owners = {given_to(it, request(call_id=f"c{n}"), host="198.51.100.7") for n in range(20)}
    assert len(owners) == 1
    hosts = {given_to(it, request(call_id=f"d{n}"), host=f"198.51.{n}.7") for n in range(40)}
    assert hosts == {1, 2, 3}
    same_network = {
        given_to(it, request(call_id=f"e{n}"), host=f"2001:db8::{n:x}") for n in range(20)
    }
    assert len(same_network) == 1


def test_a_call_that_replaces_another_goes_where_that_is() -> None:
    it = dispatcher(1, 2)
    owner = given_to(it, request(call_id="old"))
    for number in range(6):
        lines = ("Replaces: old;to-tag=a;from-tag=b",)
        assert given_to(it, request(call_id=f"n{number}", lines=lines)) == owner
    assert given_to(it, request(call_id="x", lines=("Replaces: unknown;to-tag=a",))) != NOBODY


def test_a_refused_call_is_tried_once_elsewhere() -> None:
    it = dispatcher(1, 2)
    owner = given_to(it, request())
    call = it.table.get("c1")
    assert call is not None
    refusal = seen(response(503))
    assert it.second(call, refusal) == 3 - owner
    it.shares[3 - owner].open = False
    assert it.second(call, refusal) == NOBODY
    it.shares[3 - owner].open = True
    it.draining = True
    assert it.second(call, refusal) == NOBODY
    it.draining = False
    call.moved = True
    assert it.second(call, refusal) == NOBODY


def test_a_flood_of_calls_is_forgotten_oldest_first() -> None:
    table = CallTable(max_brief=3, max_lasting=2)
    for number in range(10):
        call = table.open(f"c{number}", 1, 0.0)
        data = request(call_id=f"c{number}")
        call.received(seen(data), data, SOURCE)
        table.touched(call, 0.0)
    assert len(table) == 5
    assert [call.call_id for call in table] == ["c0", "c1", "c7", "c8", "c9"]


def test_what_is_over_is_forgotten_after_a_while() -> None:
    table = CallTable()
    answered, unanswered = (table.open(name, 1, 0.0) for name in ("answered", "unanswered"))
    for call in (answered, unanswered):
        call.received(seen(request()), request(), SOURCE)
        table.touched(call, 0.0)
    answered.sent(seen(response(486)), response(486), SOURCE)
    table.touched(answered, 1.0)
    table.open("later", 1, 1.0 + BRIEF_SECONDS)
    assert [call.call_id for call in table] == ["unanswered", "later"]
    table.open("late", 1, UNANSWERED_SECONDS)
    assert table.get("unanswered") is None


def test_an_established_call_is_never_forgotten() -> None:
    table = CallTable(max_brief=2)
    call = table.open("c1", 1, 0.0)
    call.received(seen(request()), request(), SOURCE)
    call.sent(seen(response(200)), response(200), SOURCE)
    table.touched(call, 0.0)
    for number in range(20):
        table.open(f"x{number}", 2, 1e6 + number * 100)
    assert table.get("c1") is call
    assert table.owned(1) == [call]


def test_a_call_whose_far_end_never_confirms_its_end_is_forgotten() -> None:
    table = CallTable()
    call = table.open("c1", 1, 0.0)
    call.received(seen(request()), request(), SOURCE)
    call.sent(seen(response(200)), response(200), SOURCE)
    table.touched(call, 0.0)
    table.open("c2", 1, 1000.0)
    assert table.get("c1") is call
    bye = request("BYE", from_tag="ours", to_tag="theirs")
    call.sent(seen(bye), bye, SOURCE)
    table.touched(call, 1000.0)
    table.open("c3", 1, 1000.0 + BRIEF_SECONDS / 2)
    assert table.get("c1") is call
    table.open("c4", 1, 1001.0 + BRIEF_SECONDS)
    assert table.get("c1") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("IRCAOB2")), max_size=60))
def test_whatever_comes_the_owner_stays(messages: list[tuple[int, str]]) -> None:
    it = dispatcher(1, 2, 3)
    kinds = {
        "I": lambda c: request(call_id=c),
        "R": lambda c: request(call_id=c, to_tag="t", cseq=2),
        "C": lambda c: request("CANCEL", call_id=c),
        "A": lambda c: request("ACK", call_id=c, to_tag="t"),
        "O": lambda c: request("OPTIONS", call_id=c),
        "B": lambda c: request("BYE", call_id=c, to_tag="t", cseq=3),
        "2": lambda c: response(200, call_id=c),
    }
    owners: dict[str, int] = {}
    for number, kind in messages:
        owner = given_to(it, kinds[kind](f"c{number}"))
        if owner != NOBODY:
            assert owners.setdefault(f"c{number}", owner) == owner
