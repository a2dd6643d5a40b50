"""REFER and its subscription in virtual time: both ways round, over good and bad networks."""

from __future__ import annotations

import random

import pytest
from sip_link import OFFER, TARGET, Net, Station, incoming, pair
from sip_transferee import RINGING, TRYING, News, Transferee, final

from ringtrue.telephony.sip.errors import SipParseError, SipStateError
from ringtrue.telephony.sip.events import EndCause, Ended, ReferEnded, ReferProgress, Referred
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.refer import refer_target, subscription_state, told
from ringtrue.telephony.sip.uri import parse_uri

DESK = "sip:desk@example.com"
LIMIT = 45.0


def established(
    *news: News, placed: bool = True, status: int = 202
) -> tuple[Net, Station, str, Transferee]:
    """A call between us and a far end that takes REFER; ``placed`` says that we called."""
    net, a, b = pair()
    handle = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    ours, call = (a, handle) if placed else (b, incoming(b))
    theirs, other = (b, incoming(b)) if placed else (a, handle)
    transferee = Transferee(theirs, other, news, status=status)
    for usage in (ours.ua._calls[call], theirs.ua._calls[other]):
        usage._allowed = frozenset()  # type: ignore[attr-defined]
    return net, ours, call, transferee


def refer(net: Net, ours: Station, call: str, to: str = DESK) -> None:
    ours.ua.refer(call, to, net.now, limit=LIMIT)


def at_rest(net: Net) -> None:
    """Nothing is left once both have hung up."""
    for station in net.stations.values():
        for handle in tuple(station.ua._calls):
            station.ua.bye(handle, net.now)
    net.run(net.now + 100)
    assert all(set(s.ua.sizes().values()) == {0} for s in net.stations.values())


@pytest.mark.parametrize("placed", [True, False])
def test_the_far_end_tells_how_far_it_is_and_that_it_got_through(placed: bool) -> None:
    net, ours, call, far = established(TRYING, RINGING, final("200 OK"), placed=placed)
    refer(net, ours, call)
    net.run(10.0)
    assert ours.of(ReferProgress) == [ReferProgress(call, 180, "Ringing")]
    assert ours.of(ReferEnded) == [ReferEnded(call, 200, "OK", accepted=True)]
    assert far.answers == [200, 200, 200]
    assert ours.of(Ended) == []  # who says BYE is for the owner to decide
    (sent,) = far.referred
    assert sent.headers.get("refer-to") == f"<{DESK}>"
    assert sent.headers.get("referred-by") == f"<{far.call.dialog.remote.uri}>"
    assert sent.contact is not None
    ours.ua.bye(call, net.now)
    net.run(11.0)
    assert ours.of(Ended) == [Ended(call, EndCause.LOCAL_BYE)]
    at_rest(net)


@pytest.mark.parametrize(
    ("line", "status"), [("486 Busy Here", 486), ("603 Decline", 603), ("503", 503)]
)
def test_who_was_called_says_no(line: str, status: int) -> None:
    net, ours, call, far = established(TRYING, final(line))
    refer(net, ours, call)
    net.run(10.0)
    (ended,) = ours.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert (ended.status, ended.accepted, ended.heard) == (status, True, True)
    assert ours.of(Ended) == []
    far.news = (final("200 OK", 1.0),)
    refer(net, ours, call, "sip:other@example.com")  # the call goes on, and so may another try
    net.run(20.0)
    assert [e.status for e in ours.of(ReferEnded) if isinstance(e, ReferEnded)] == [status, 200]
    at_rest(net)


@pytest.mark.parametrize("state", ["active;expires=60", "terminated"])
def test_a_second_referral_is_told_of_by_its_number(state: str) -> None:
    """RFC 3515 §2.4.6: else what is told of the first could pass for it."""
    net, ours, call, far = established(News(0.2, "486 Busy Here", state))
    refer(net, ours, call)
    net.run(5.0)
    number = far.call.dialog.remote_seq
    assert number is not None
    named = News(0.5, "200 OK", "terminated", f"refer;id={number + 1}")
    stale = News(0.3, "603 Decline", "active", f"refer;id={number}")
    nameless = [News(0.4, "603 Decline")] if state != "terminated" else []
    far.news = (stale, *nameless, named)
    refer(net, ours, call)
    net.run(10.0)
    assert far.answers == [200, *[481] * (1 + len(nameless)), 200]
    assert [e.status for e in ours.of(ReferEnded) if isinstance(e, ReferEnded)] == [486, 200]
    at_rest(net)


@pytest.mark.parametrize("status", [405, 501, 603, 403])
def test_a_far_end_refuses(status: int) -> None:
    net, ours, call, far = established(status=status)
    refer(net, ours, call)
    net.run(5.0)
    (ended,) = ours.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert (ended.status, ended.accepted, ended.heard) == (status, False, True)
    assert ours.of(Ended) == []
    far.tell(final("200 OK"), net.now)  # of a subscription there never was
    net.run(10.0)
    assert far.answers == [481]
    assert len(ours.of(ReferEnded)) == 1
    at_rest(net)


def test_a_far_end_that_says_it_takes_none_is_not_asked() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    a.ua.established(call)._allowed = frozenset({"INVITE", "BYE"})
    a.ua.refer(call, DESK, net.now, limit=LIMIT)
    net.run(2.0)
    assert a.count("REFER") == 0
    assert a.of(ReferEnded) == [
        ReferEnded(call, 405, "Method Not Allowed", accepted=False, heard=False)
    ]


@pytest.mark.parametrize("placed", [True, False])
def test_nobody_makes_us_call(placed: bool) -> None:
    """A REFER is the owner's to judge, from either side; nothing is called by itself."""
    net, a, b = pair()
    handle = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    theirs, call, ours = (b, incoming(b), a) if placed else (a, handle, b)
    theirs.ua.refer(call, DESK, net.now, limit=LIMIT)
    net.run(2.0)
    (event,) = ours.of(Referred)
    assert isinstance(event, Referred)
    assert (event.target, event.replaces) == (DESK, None)
    ours.ua.established(event.call).referees.refuse(603, net.now)
    net.run(5.0)
    (answer,) = [m for _, m in ours.sent if isinstance(m, Response) and m.cseq_method == "REFER"]
    assert answer.status == 603
    assert ours.count("INVITE") == (1 if placed else 0)
    assert len(theirs.of(ReferEnded)) == 1
    assert ours.of(Ended) == theirs.of(Ended) == []


def test_a_far_end_that_never_tells() -> None:
    net, ours, call, far = established(TRYING, RINGING)
    refer(net, ours, call)
    started = net.now
    net.run(started + LIMIT - 0.5)
    assert ours.of(ReferEnded) == []
    with pytest.raises(SipStateError, match="under way"):
        refer(net, ours, call)
    net.run(started + LIMIT + 0.5)
    assert ours.of(ReferEnded) == [ReferEnded(call, 180, "Ringing", accepted=True, heard=False)]
    far.tell(final("200 OK"), net.now)
    net.run(net.now + 5)
    assert far.answers[-1] == 481  # which ends its subscription
    assert len(ours.of(ReferEnded)) == 1
    at_rest(net)


@pytest.mark.parametrize(
    "news",
    [
        News(0.2, "100 Trying", "active;expires=5"),
        News(0.2, "100 Trying", "terminated;reason=noresource"),
    ],
)
def test_a_subscription_that_ends_without_an_outcome(news: News) -> None:
    net, ours, call, _ = established(news)
    refer(net, ours, call)
    net.run(12.0)
    assert ours.of(ReferEnded) == [ReferEnded(call, 100, "Trying", accepted=True, heard=False)]
    at_rest(net)


def test_no_answer_at_all() -> None:
    net, ours, call, _ = established()
    net.tap = lambda station, hop, data: not data.startswith(b"REFER")
    refer(net, ours, call)
    net.run(50.0)
    assert ours.of(ReferEnded) == [
        ReferEnded(call, 408, "Request Timeout", accepted=False, heard=False)
    ]
    assert ours.of(Ended) == []


def test_a_dialog_that_is_gone_ends_the_call() -> None:
    net, ours, call, _ = established(status=481)
    refer(net, ours, call)
    net.run(5.0)
    assert ours.of(Ended) == [Ended(call, EndCause.LOST)]


def test_the_far_end_hangs_up_meanwhile() -> None:
    net, ours, call, far = established(TRYING, RINGING)
    refer(net, ours, call)
    net.run(3.0)
    far.call.bye(net.now)
    net.run(100.0)
    assert ours.of(Ended) == [Ended(call, EndCause.REMOTE_BYE)]
    assert ours.of(ReferEnded) == []
    assert all(set(s.ua.sizes().values()) == {0} for s in net.stations.values())


def test_news_before_the_answer_counts() -> None:
    """RFC 3515 §2.4.4: a NOTIFY may overtake the 202."""
    net, ours, call, far = established(final("200 OK", 0.0))
    kept: list[bytes] = []

    def hold_back(station: Station, hop: object, data: bytes) -> bool:
        if data.startswith(b"SIP/2.0 202") and not kept:
            kept.append(data)
            return False
        return True

    net.tap = hold_back
    refer(net, ours, call)
    net.run(5.0)
    assert kept
    assert ours.of(ReferEnded) == [ReferEnded(call, 200, "OK", accepted=True)]
    at_rest(net)


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_a_bad_network_changes_nothing(seed: int, placed: bool) -> None:
    """One outcome, the true one; a NOTIFY that overtakes another makes that one too late."""
    line = random.Random(seed).choice(("200 OK", "486 Busy Here"))
    net, ours, call, far = established(TRYING, RINGING, final(line, 3.0), placed=placed)
    net.loss, net.duplicate, net.jitter = 0.25, 0.1, 0.3
    net._rng = random.Random(seed)
    refer(net, ours, call)
    net.run(net.now + 60)
    (ended,) = ours.of(ReferEnded)
    assert isinstance(ended, ReferEnded)
    assert ended.heard
    assert f"{ended.status} {ended.reason}" == line
    assert len(far.referred) == 1
    assert len(far.answers) == 3
    assert set(far.answers) <= {200, 500}
    at_rest(net)


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("sip:desk@example.com;transport=tcp", "<sip:desk@example.com;transport=tcp>"),
        ("sip:desk@example.com?Replaces=x", "<sip:desk@example.com>"),
        ("+12015550123", "<sip:+12015550123@pbx.example:5070;user=phone>"),
        ("tel:+1-201-555-0123", "<sip:+12015550123@pbx.example:5070;user=phone>"),
    ],
)
def test_where_to(to: str, expected: str) -> None:
    assert str(refer_target(to, parse_uri("sip:alice@pbx.example:5070"))) == expected


@pytest.mark.parametrize(
    "to", ["", "desk", "mailto:a@b", "tel:", "sip:", "tel:+1>", "sip:a@b>\r\nX: y"]
)
def test_nowhere(to: str) -> None:
    with pytest.raises(SipParseError):
        refer_target(to, parse_uri("sip:alice@pbx.example"))


def test_a_number_beside_a_far_end_without_a_domain() -> None:
    assert str(refer_target("+12015550123", parse_uri("tel:+12015550100"))) == "<tel:+12015550123>"


def notify(state: str | None, body: bytes, kind: str = "message/sipfrag;version=2.0") -> Request:
    net, ours, call, far = established()
    request = far.call.dialog.request("NOTIFY")
    if state is not None:
        request.headers.add("subscription-state", state)
    request.headers.add("content-type", kind)
    request.body = body
    return request


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"SIP/2.0 200 OK\r\n", (200, "OK")),
        (b"SIP/2.0 603 Declin\xe9\r\nTo: x\r\n\r\n", (603, "Declin\ufffd")),
        (b"\r\nSIP/2.0 100", (100, "")),
        (b"SIP/2.0 2000 OK", None),
        (b"SIP/2.0 900 OK", None),
        (b"INVITE sip:a@b SIP/2.0", None),
        (b"", None),
    ],
)
def test_fragments(body: bytes, expected: tuple[int, str] | None) -> None:
    assert told(notify(None, body)) == expected
    assert told(notify(None, body, "text/plain")) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, (False, None)),
        ("active", (False, None)),
        ("active;expires=30", (False, 30)),
        ("pending ; expires=30", (False, 30)),
        ("active;expires=-1", (False, None)),
        ("active;=;\x01", (False, None)),
        ("Terminated;reason=noresource", (True, None)),
        ("terminated", (True, None)),
    ],
)
def test_states(state: str | None, expected: tuple[bool, int | None]) -> None:
    assert subscription_state(notify(state, b"")) == expected


def test_another_event_is_none_of_ours() -> None:
    net, ours, call, far = established(News(0.1, "200 OK", event="presence"))
    refer(net, ours, call)
    net.run(3.0)
    assert far.answers == [489]
    far.tell(News(0, "200 OK", event='refer;id="'), net.now)
    net.run(6.0)
    assert far.answers == [489, 481]
    assert ours.of(ReferEnded) == []


def test_whatever_comes_is_answered() -> None:
    rng = random.Random(5)
    net, ours, call, far = established()
    refer(net, ours, call)
    net.run(2.0)
    pieces = [
        "refer",
        "id",
        "=",
        ";",
        '"',
        "\\",
        "1",
        "2",
        "99999999999",
        "terminated",
        "active",
        "expires",
        "-1",
        " ",
        "\u00ff",
        ",",
        "<",
        "SIP/2.0 ",
        "486",
        "1000",
        "\t",
        "",
    ]

    def junk(length: int) -> str:
        return "".join(rng.choice(pieces) for _ in range(rng.randrange(length)))

    for count in range(1, 301):
        event = rng.choice((junk(5), f"refer;{junk(5)}", "refer"))
        far.tell(News(0, junk(4), junk(8), event), net.now)
        net.run(net.now + 0.1)
        assert len(far.answers) == count
    assert set(far.answers) <= {200, 481, 489, 400}
    assert len(ours.of(ReferEnded)) == 1
    at_rest(net)
