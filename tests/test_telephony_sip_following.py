"""What is known of calls whose messages only go by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_texts import request, response

from ringtrue.telephony.sip.following import MAX_DIALOGS, Followed
from ringtrue.telephony.sip.peek import peek
from ringtrue.telephony.sip.transport import Hop

THEM = Hop("udp", "192.0.2.1", 5060)
ELSEWHERE = Hop("tcp", "192.0.2.1", 40000)


class Calls:
    """One Call-ID, and what goes by."""

    def __init__(self) -> None:
        self.call = Followed("c1", 1, 0.0)

    def come(self, data: bytes, source: Hop = THEM) -> None:
        seen = peek(data)
        assert seen is not None
        self.call.received(seen, data, source)

    def go(self, data: bytes, hop: Hop = THEM) -> None:
        seen = peek(data)
        assert seen is not None
        self.call.sent(seen, data, hop)


@pytest.fixture
def it() -> Calls:
    return Calls()


def answered() -> Calls:
    it = Calls()
    route = ("Record-Route: <sip:edge.example;lr>, <sip:core.example;lr>",)
    it.come(request(lines=route))
    it.go(response(100, to_tag=""))
    it.go(response(200))
    it.come(request("ACK", to_tag="ours"))
    return it


def placed() -> Calls:
    """A call of ours; the far end's requests and our own trade places."""
    it = Calls()
    it.go(request(from_tag="ours", cseq=7))
    it.come(response(180, from_tag="ours", to_tag="theirs", cseq=7))
    it.come(response(200, from_tag="ours", to_tag="theirs", cseq=7))
    return it


def test_a_call_we_answer() -> None:
    (dialog,) = answered().call.ending()
    bye = dialog.request("BYE")
    assert str(bye.uri) == "sip:them@192.0.2.1"
    assert bye.headers.get("call-id") == "c1"
    assert bye.from_.tag == "ours"
    assert bye.to.tag == "theirs"
    assert bye.cseq == 1
    assert bye.headers.get_all("route") == ["<sip:edge.example;lr>", "<sip:core.example;lr>"]
    assert dialog.flow == THEM


def test_a_call_we_place() -> None:
    it = placed()
    (dialog,) = it.call.ending()
    bye = dialog.request("BYE")
    assert str(bye.uri) == f"sip:agent@{'127.0.0.1:5060'}"
    assert (bye.from_.tag, bye.to.tag) == ("ours", "theirs")
    assert bye.cseq == 8


def test_our_numbers_go_on_where_the_owner_was() -> None:
    it = answered()
    for number, method in ((5, "INVITE"), (6, "UPDATE"), (7, "REFER")):
        it.go(request(method, from_tag="ours", to_tag="theirs", cseq=number))
    (dialog,) = it.call.ending()
    assert dialog.request("BYE").cseq == 8


@pytest.mark.parametrize("status", [302, 401, 486, 503, 603])
def test_a_call_that_was_not_answered(it: Calls, status: int) -> None:
    it.come(request())
    assert it.call.lasting
    it.go(response(status))
    assert not it.call.lasting
    it = Calls()
    it.go(request(from_tag="ours"))
    it.come(response(status, from_tag="ours", to_tag="theirs"))
    assert not it.call.lasting


def test_a_late_refusal_of_an_earlier_try_changes_nothing(it: Calls) -> None:
    it.go(request(from_tag="ours", cseq=2))
    it.come(response(401, from_tag="ours", to_tag="x", cseq=1))
    assert it.call.placed is not None


def test_the_far_end_hangs_up() -> None:
    it = answered()
    it.come(request("BYE", to_tag="ours", cseq=2))
    assert not it.call.lasting


def test_our_side_hangs_up() -> None:
    it = answered()
    it.go(request("BYE", from_tag="ours", to_tag="theirs", cseq=1))
    assert it.call.lasting  # it may have been lost
    it.come(response(200, method="BYE", from_tag="ours", to_tag="theirs"))
    assert not it.call.lasting


def test_a_bye_of_another_dialog_ends_nothing() -> None:
    it = answered()
    it.come(request("BYE", to_tag="ours", from_tag="somebody", cseq=2))
    assert it.call.lasting


def test_requests_go_where_the_far_end_moved() -> None:
    it = answered()
    moved = request("INVITE", to_tag="ours", cseq=2).replace(
        b"Contact: <sip:them@192.0.2.1>", b"Contact: <sip:them@192.0.2.77>"
    )
    it.come(moved, ELSEWHERE)
    (dialog,) = it.call.ending()
    assert dialog.target.host == "192.0.2.1"  # not accepted yet
    it.go(response(200, cseq=2))
    assert dialog.target.host == "192.0.2.77"
    assert dialog.flow == ELSEWHERE


def test_a_change_that_was_refused_moves_nobody() -> None:
    it = answered()
    moved = request("UPDATE", to_tag="ours", cseq=2).replace(b"them@192.0.2.1>", b"them@192.0.2.9>")
    it.come(moved)
    it.go(response(488, method="UPDATE", cseq=2))
    (dialog,) = it.call.ending()
    assert dialog.target.host == "192.0.2.1"


def test_forks_are_each_ended_up_to_a_bound(it: Calls) -> None:
    it.go(request(from_tag="ours"))
    for fork in range(MAX_DIALOGS + 3):
        it.come(response(200, from_tag="ours", to_tag=f"fork{fork}"))
    assert len(it.call.ending()) == MAX_DIALOGS


def test_an_invite_again_after_its_answer_is_not_asked_again() -> None:
    it = answered()
    it.come(request())
    it.go(response(200))
    assert it.call.asked is None
    assert len(it.call.dialogs) == 1


def test_a_call_to_ourselves_has_two_ends(it: Calls) -> None:
    it.go(request(from_tag="a"))
    it.come(request(from_tag="a"))
    it.go(response(200, from_tag="a", to_tag="b"))
    it.come(response(200, from_tag="a", to_tag="b"))
    assert sorted(tags[0] for tags in it.call.dialogs) == ["a", "b"]


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(["INVITE", "BYE", "UPDATE", "ACK", "CANCEL"]),
            st.sampled_from([0, 100, 180, 200, 401, 487]),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["a", "b"]),
            st.integers(1, 3),
            st.sampled_from([b"Contact: <sip:them@192.0.2.1>", b"Contact: *", b"Contact: junk<"]),
        ),
        max_size=30,
    )
)
def test_whatever_goes_by_it_never_raises(
    messages: list[tuple[bool, str, int, str, str, int, bytes]],
) -> None:
    it = Calls()
    for comes, method, status, to_tag, from_tag, cseq, contact in messages:
        data = (
            response(status, method=method, cseq=cseq, to_tag=to_tag, from_tag=from_tag)
            if status
            else request(method, cseq=cseq, to_tag=to_tag, from_tag=from_tag)
        ).replace(b"Contact: <sip:them@192.0.2.1>", contact)
        (it.come if comes else it.go)(data)
        for dialog in it.call.ending():
            dialog.request("BYE").encode()
