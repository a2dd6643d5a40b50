"""Whatever two user agents do to an established call over a bad network, both end it alike."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from sip_callee import empty
from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station, incoming

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.errors import SipStateError
from ringtrue.telephony.sip.events import (
    Answered,
    Ended,
    Event,
    IncomingInvite,
    RefreshDue,
    ReInvite,
    ReInviteAnswered,
    ReInviteRejected,
    ReOfferDue,
)

steps = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["change", "change", "bye"]),
        st.sampled_from([0.0, 0.005, 0.3, 3.0, 100.0]),
    ),
    max_size=10,
)


def owner(refuses: bool) -> Callable[[Station, Event], None]:
    """Answers calls and changes, the latter perhaps with a refusal, and refreshes."""

    def act(station: Station, event: Event) -> None:
        now = station.net.now
        if isinstance(event, IncomingInvite):
            station.ua.accept(event.call, ANSWER, now)
        elif isinstance(event, ReInvite):
            if refuses:
                station.ua.reject(event.call, 488, now)
            else:
                station.ua.accept(event.call, ANSWER, now)
        elif isinstance(event, RefreshDue):
            station.ua.reinvite(event.call, OFFER, now)
        elif isinstance(event, ReOfferDue):
            station.ua.reinvite(event.call, OFFER, now, after_glare=True)

    return act


@settings(max_examples=60)
@given(
    steps,
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.15]),
    st.tuples(st.booleans(), st.booleans()),
)
def test_both_ends_agree_that_it_is_over(
    sequence: list[tuple[str, str, float]], seed: int, loss: float, refuse: tuple[bool, bool]
) -> None:
    net = Net(seed, loss=loss, duplicate=loss / 2, jitter=0.1 if loss else 0.0)
    policy = Policy(session_seconds=90)
    a = net.add("a", A, policy=policy, on_event=owner(refuse[0]))
    b = net.add("b", B, policy=policy, on_event=owner(refuse[1]))
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(40.0)
    if not a.of(Answered):
        assert loss, "nothing was lost"
        return
    handles = {"a": (a, call), "b": (b, incoming(b))}
    changes = 0
    for who, what, after in sequence:
        station, handle = handles[who]
        try:
            if what == "bye":
                station.ua.bye(handle, net.now)
            else:
                station.ua.reinvite(handle, b"v=0 changed", net.now)
                changes += 1
        except SipStateError:
            pass
        net.run(net.now + after)
    net.run(net.now + 300.0)
    for station in (a, b):
        assert len(station.of(Ended)) <= 1
    if not a.of(Ended):
        a.ua.bye(call, net.now)
    net.run(net.now + 400.0)
    assert len(a.of(Ended)) == len(b.of(Ended)) == 1
    told = sum(len(s.of(ReInviteAnswered)) + len(s.of(ReInviteRejected)) for s in (a, b))
    assert told <= changes, "a change has one outcome, or ends with its call"
    empty(a, b)
