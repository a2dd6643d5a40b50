"""Callers we challenge: nonces, counts, guesses, and how little a wrong one learns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_link import TARGET, A, B, alone, answer_to, request

from ringtrue.streaming.throttle import FailureThrottle
from ringtrue.telephony.sip import auth_server
from ringtrue.telephony.sip.auth_client import Attempts, AuthClient, Credential
from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer, Verdict, networks
from ringtrue.telephony.sip.events import IncomingInvite
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.transport import Hop

POLICY = AuthPolicy(realm="ring", users={"alice": "s3cret"}, trusted=networks(["192.0.2.0/28"]))
DESK = Hop("udp", B, 5060)


def made_tokens() -> Iterator[bytes]:
    for n in count():
        yield n.to_bytes(4, "big")


def desk(policy: AuthPolicy = POLICY, **more: object) -> AuthServer:
    tokens = made_tokens()
    return AuthServer(policy, token=lambda size: next(tokens).ljust(size, b"x"), **more)  # type: ignore[arg-type]


def invite() -> Request:
    message = parse_message(request("INVITE"))
    assert isinstance(message, Request)
    return message


class Phone:
    """A caller that answers challenges."""

    def __init__(self, user: str = "alice", password: str = "s3cret") -> None:
        self.auth = AuthClient()
        self.auth.grant("x", Credential(user, password, frozenset({"ring"})), {B})

    def answered(self, challenges: tuple[tuple[str, str], ...]) -> Request:
        """An INVITE with credentials for the strongest of ``challenges``."""
        message = invite()
        response = Response(status=401, headers=message.headers.copy())
        for name, value in challenges:
            response.headers.add(name, value)
        assert self.auth.answer(message, response, DESK, Attempts())
        return message

    def next(self) -> Request:
        """Another INVITE, with the same nonce."""
        message = invite()
        self.auth.prepare(message, DESK)
        return message


def test_a_user_is_let_in() -> None:
    server, phone = desk(), Phone()
    assert server.judge(invite(), A, 10.0) is Verdict.CHALLENGED
    challenges = server.challenges(A, 10.0, stale=False)
    assert [name for name, _ in challenges] == ["www-authenticate"] * 3
    first = phone.answered(challenges)
    assert "SHA-512-256" in (first.headers.get("authorization") or "")
    assert server.judge(first, A, 10.1) is Verdict.AUTHENTICATED
    assert server.judge(phone.next(), A, 10.2) is Verdict.AUTHENTICATED
    assert server.counts == {Verdict.CHALLENGED: 1, Verdict.AUTHENTICATED: 2}


def test_credentials_are_good_once() -> None:
    server, phone = desk(), Phone()
    first = phone.answered(server.challenges(A, 0.0, stale=False))
    second = phone.next()
    third = phone.next()
    assert server.judge(third, A, 1.0) is Verdict.AUTHENTICATED
    assert server.judge(first, A, 1.0) is Verdict.AUTHENTICATED
    assert server.judge(second, A, 1.0) is Verdict.AUTHENTICATED
    for used in (first, second, third):
        assert server.judge(used, A, 1.0) is Verdict.STALE


@given(st.lists(st.integers(1, 200), max_size=300))
def test_every_count_is_taken_at_most_once(numbers: list[int]) -> None:
    counts = auth_server._Counts(0.0)
    taken: set[int] = set()
    highest = 0
    for number in numbers:
        fresh = number not in taken and number > highest - auth_server.WINDOW
        assert counts.take(number) is fresh
        if fresh:
            taken.add(number)
        highest = max(highest, number)


def test_a_nonce_ages_and_belongs_to_its_source() -> None:
    server = desk()
    made = server.challenges(A, 100.0, stale=False)
    assert server.judge(Phone().answered(made), "10.0.0.9", 101.0) is Verdict.STALE
    assert server.judge(Phone().answered(made), A, 400.1) is Verdict.STALE
    assert server.judge(Phone().answered(made), A, 99.0) is Verdict.STALE
    assert server.judge(Phone().answered(made), A, 400.0) is Verdict.AUTHENTICATED
    foreign = AuthServer(POLICY).challenges(A, 100.0, stale=False)
    assert server.judge(Phone().answered(foreign), A, 101.0) is Verdict.STALE


@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("mallory", "s3cret")])
def test_wrong_ones_look_alike(user: str, password: str) -> None:
    server = desk()
    made = server.challenges(A, 0.0, stale=False)
    assert server.judge(Phone(user, password).answered(made), A, 0.1) is Verdict.WRONG


def test_a_guesser_is_not_even_looked_at() -> None:
    server = desk(throttle=FailureThrottle(burst=3, leak_seconds=10))
    guess = Phone("alice", "guess")
    for _ in range(3):
        made = server.challenges(A, 0.0, stale=False)
        assert server.judge(guess.answered(made), A, 0.0) is Verdict.WRONG
    right = Phone().answered(server.challenges(A, 0.0, stale=False))
    assert server.judge(right, A, 0.0) is Verdict.THROTTLED
    other = Phone().answered(server.challenges("10.0.0.7", 0.0, stale=False))
    assert server.judge(other, "10.0.0.7", 0.0) is Verdict.AUTHENTICATED
    later = Phone().answered(server.challenges(A, 31.0, stale=False))
    assert server.judge(later, A, 31.0) is Verdict.AUTHENTICATED


def test_who_needs_no_password() -> None:
    server = desk(is_own=lambda host: host == "198.51.100.1")
    for host in ("192.0.2.5", "::ffff:192.0.2.5", "198.51.100.1"):
        assert server.judge(invite(), host, 0.0) is Verdict.TRUSTED
    for host in ("192.0.2.99", "fe80::1%eth0", "not an address"):
        assert server.judge(invite(), host, 0.0) is Verdict.CHALLENGED
    closed = desk(AuthPolicy(realm="ring", trusted=POLICY.trusted))
    assert closed.judge(invite(), A, 0.0) is Verdict.FORBIDDEN


@pytest.mark.parametrize(
    "value",
    [
        "Digest nonsense",
        'Digest username="alice", realm="ring", nonce="n", uri="x", response="0", qop=auth',
        "Basic YWxpY2U6czNjcmV0",
    ],
)
def test_unreadable_credentials_count_as_guesses(value: str) -> None:
    server = desk()
    message = invite()
    message.headers.add("authorization", value)
    assert server.judge(message, A, 0.0) is Verdict.WRONG


def test_old_style_and_weak_answers_are_not_taken() -> None:
    server = desk(AuthPolicy(realm="ring", users=POLICY.users, algorithms=("SHA-256",)))
    (line,) = server.challenges(A, 0.0, stale=False)
    for change in ((', qop="auth"', ""), ("algorithm=SHA-256", "algorithm=MD5")):
        weak = Phone().answered(((line[0], line[1].replace(*change)),))
        assert server.judge(weak, A, 0.0) is Verdict.WRONG


@given(st.text(max_size=60))
def test_any_nonce_may_come(nonce: str) -> None:
    assert AuthServer(POLICY)._issued(nonce, A) is None


def test_the_table_is_bounded_and_what_it_forgot_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth_server, "MAX_NONCES", 4)
    server = desk()
    spent = []
    for second in range(10):
        message = Phone().answered(server.challenges(A, float(second), stale=False))
        assert server.judge(message, A, float(second)) is Verdict.AUTHENTICATED
        spent.append(message)
    assert len(server._used) == 4
    assert [server.judge(message, A, 9.0) for message in spent] == [Verdict.STALE] * 10


def test_the_user_agent_challenges_new_calls_without_keeping_any_state() -> None:
    net, station, source = alone()
    server = station.ua.auth = desk()
    first = answer_to(net, station, source, request("INVITE"))
    assert first is not None
    assert (first.status, first.reason) == (401, "Unauthorized")
    assert station.ua.sizes() == {"calls": 0, "client": 0, "server": 0, "streams": 0}
    again = answer_to(net, station, source, request("INVITE"))
    assert again is not None
    assert again.to.tag == first.to.tag
    lines = tuple(("www-authenticate", v) for v in first.headers.get_all("www-authenticate"))
    message = Phone().answered(lines)
    message.headers.set("cseq", ["2 INVITE"])
    message.headers.set("via", [f"SIP/2.0/UDP {A}:5060;branch=z9hG4bKx2"])
    station.ua.receive(message.encode(), source, net.now)
    net.flush()
    assert len(station.of(IncomingInvite)) == 1
    # What is inside the call, and what makes none, is not challenged.
    options = answer_to(net, station, source, request("OPTIONS", branch="x3"))
    assert options is not None
    assert options.status == 200
    assert server.counts[Verdict.AUTHENTICATED] == 1


def test_wrong_and_throttled_get_the_same_answer() -> None:
    net, station, source = alone()
    station.ua.auth = desk(throttle=FailureThrottle(burst=1, leak_seconds=100))
    seen = []
    for number in range(4):
        lines = station.ua.auth.challenges(A, net.now, stale=False)
        message = Phone("alice", "guess").answered(lines)
        message.headers.set("via", [f"SIP/2.0/UDP {A}:5060;branch=z9hG4bKy{number}"])
        response = answer_to(net, station, source, message.encode())
        assert response is not None
        seen.append((response.status, [name for name, _ in response.headers]))
    assert seen.count(seen[0]) == 4
    assert station.ua.auth.counts == {Verdict.WRONG: 1, Verdict.THROTTLED: 3}


def test_strangers_where_there_are_no_users() -> None:
    net, station, source = alone()
    station.ua.auth = desk(AuthPolicy(realm="ring", trusted=POLICY.trusted))
    response = answer_to(net, station, source, request("INVITE", to=TARGET))
    assert response is not None
    assert response.status == 403
    assert "www-authenticate" not in response.headers
