"""Our requests meet challenges: RFC 3261 §22.2 and §22.3, RFC 3665 §3.2, in virtual time."""

from __future__ import annotations

from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station, sequence

from ringtrue.telephony.sip.auth_client import Attempts, AuthClient, Credential, strongest
from ringtrue.telephony.sip.digest import digest_response, parse_credentials
from ringtrue.telephony.sip.events import Answered, EndCause, Ended, Rejected
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.transport import Hop

PROXY = Hop("udp", B, 5060)
ALICE = Credential("alice", "s3cret", frozenset({"trunk"}))


class Trunk:
    """A hand-written far end at :data:`B` that answers as a test says, and keeps what came."""

    def __init__(self) -> None:
        self.net = Net()
        self.station = self.net.add("a", A)
        self.station.ua.core.auth = AuthClient(sequence("c"))
        self.station.ua.core.auth.grant("trunk", ALICE, {B})
        self.net.tap = self._tap
        self.heard: list[Request] = []
        self.nonce = 0

    def _tap(self, station: Station, hop: Hop, data: bytes) -> bool:
        message = parse_message(data)
        if isinstance(message, Request):
            self.heard.append(message)
        return False

    def say(
        self, request: Request, status: int, *extra: tuple[str, str], body: bytes = b""
    ) -> None:
        """Answer ``request``; it arrives at once."""
        lines = [*extra]
        if status < 300 and request.method == "INVITE":
            lines += [("contact", f"<sip:bob@{B}>")]
        response = make_response(request, status, "X", to_tag="b", extra=lines, body=body)
        self.station.ua.receive(response.encode(), PROXY, self.net.now)
        self.net.flush()

    def challenge(
        self,
        request: Request,
        status: int = 407,
        realm: str = "trunk",
        *,
        more: str = ', qop="auth"',
    ) -> str:
        """Challenge ``request`` with a new nonce, which is returned."""
        self.nonce += 1
        name = {401: "www-authenticate", 407: "proxy-authenticate"}[status]
        nonce = f"n{self.nonce}"
        self.say(request, status, (name, f'Digest realm="{realm}", nonce="{nonce}"{more}'))
        return nonce

    def invite(self) -> Request:
        """Place a call; what it sent."""
        self.station.ua.invite(TARGET, OFFER, self.net.now, from_uri=f"sip:alice@{A}")
        self.net.flush()
        return self.heard[-1]


def right(request: Request, header: str, password: str = "s3cret") -> bool:
    """Whether the request's credentials are ``password``'s."""
    got = parse_credentials(request.headers.get(header) or "")
    return got.response == digest_response(
        algorithm=got.algorithm,
        user=got.user,
        realm=got.realm,
        password=password,
        method=request.method,
        uri=got.uri,
        nonce=got.nonce,
        cnonce=got.cnonce,
        count=got.count,
    )


def test_an_invite_through_a_proxy_that_wants_to_know() -> None:
    """RFC 3665 §3.2: 407, ACK, INVITE again, 200, ACK with the same credentials, BYE."""
    trunk = Trunk()
    first = trunk.invite()
    assert "proxy-authorization" not in first.headers
    nonce = trunk.challenge(first)
    ack, second = trunk.heard[1:]
    assert (ack.method, ack.cseq, ack.via) == ("ACK", 1, first.via)
    assert (second.method, second.cseq, second.call_id) == ("INVITE", 2, first.call_id)
    assert second.via.branch != first.via.branch
    assert second.from_ == first.from_
    assert second.to.tag is None
    assert second.body == OFFER
    assert right(second, "proxy-authorization")
    credentials = parse_credentials(second.headers.get("proxy-authorization") or "")
    assert (credentials.nonce, credentials.count, credentials.uri) == (nonce, 1, TARGET)

    trunk.say(second, 200, body=ANSWER)
    (answered,) = trunk.station.of(Answered)
    ack = trunk.heard[-1]
    assert (ack.method, ack.cseq) == ("ACK", 2)
    assert ack.headers.get("proxy-authorization") == second.headers.get("proxy-authorization")

    trunk.station.ua.bye(answered.call, trunk.net.now)
    trunk.net.flush()
    bye = trunk.heard[-1]
    assert (bye.method, bye.cseq) == ("BYE", 3)
    assert parse_credentials(bye.headers.get("proxy-authorization") or "").count == 2
    assert right(bye, "proxy-authorization")
    trunk.say(bye, 200)
    (ended,) = trunk.station.of(Ended)
    assert isinstance(ended, Ended)
    assert ended.cause is EndCause.LOCAL_BYE
    assert trunk.station.of(Rejected) == []


def test_the_407_comes_again() -> None:
    """Its ACK was lost: the old transaction says it again, with the old branch and number."""
    trunk = Trunk()
    first = trunk.invite()
    trunk.challenge(first)
    sent = len(trunk.heard)
    trunk.challenge(first)
    (again,) = trunk.heard[sent:]
    assert (again.method, again.cseq, again.via) == ("ACK", 1, first.via)
    assert "proxy-authorization" not in again.headers


def test_two_proxies_and_a_server() -> None:
    trunk = Trunk()
    both = Credential("alice", "s3cret", frozenset({"trunk", "edge", "desk"}))
    trunk.station.ua.core.auth.grant("trunk", both, {B})
    trunk.invite()
    trunk.challenge(trunk.heard[-1], 407, "edge")
    trunk.challenge(trunk.heard[-1], 407, "trunk")
    trunk.challenge(trunk.heard[-1], 401, "desk")
    last = trunk.heard[-1]
    assert last.cseq == 4
    assert len(last.headers.get_all("proxy-authorization")) == 2
    assert right(last, "authorization")
    trunk.say(last, 486)
    (rejected,) = trunk.station.of(Rejected)
    assert isinstance(rejected, Rejected)
    assert rejected.status == 486


def test_a_wrong_password_is_tried_once() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.challenge(trunk.heard[-1])
    trunk.challenge(trunk.heard[-1])
    (rejected,) = trunk.station.of(Rejected)
    assert isinstance(rejected, Rejected)
    assert rejected.status == 407
    assert [r.method for r in trunk.heard] == ["INVITE", "ACK", "INVITE", "ACK"]


def test_a_stale_nonce_is_replaced_but_not_for_ever() -> None:
    trunk = Trunk()
    trunk.invite()
    for _ in range(9):
        trunk.challenge(trunk.heard[-1], more=', qop="auth", stale=true')
        if trunk.station.of(Rejected):
            break
    invites = [r for r in trunk.heard if r.method == "INVITE"]
    assert len(invites) == 6
    nonces = [
        parse_credentials(r.headers.get("proxy-authorization") or "").nonce for r in invites[1:]
    ]
    assert nonces == ["n1", "n2", "n3", "n4", "n5"]


def test_no_digest_for_strangers() -> None:
    """A far end behind the trunk, or another host, names a realm: it learns nothing."""
    trunk = Trunk()
    trunk.invite()
    trunk.challenge(trunk.heard[-1], 401, "evil")
    assert [r.method for r in trunk.heard] == ["INVITE", "ACK"]
    trunk.station.ua.core.auth.grant("trunk", ALICE, {"10.9.9.9"})
    trunk.invite()
    trunk.challenge(trunk.heard[-1])
    assert all("proxy-authorization" not in request.headers for request in trunk.heard)
    assert len(trunk.station.of(Rejected)) == 2


def test_a_cancelled_call_is_not_tried_again() -> None:
    trunk = Trunk()
    first = trunk.invite()
    call = first.from_.tag or ""
    trunk.say(first, 180)
    trunk.station.ua.cancel(call, trunk.net.now)
    trunk.net.flush()
    assert trunk.heard[-1].method == "CANCEL"
    assert "proxy-authorization" not in trunk.heard[-1].headers
    trunk.challenge(first)
    assert [r.method for r in trunk.heard] == ["INVITE", "CANCEL", "ACK"]
    assert len(trunk.station.of(Rejected)) == 1


def test_a_call_is_cancelled_between_its_challenge_and_the_next_answer() -> None:
    """CANCEL waits for a provisional response to the INVITE that it is for (§9.1)."""
    trunk = Trunk()
    first = trunk.invite()
    trunk.say(first, 100)
    trunk.challenge(first)
    second = trunk.heard[-1]
    trunk.station.ua.cancel(first.from_.tag or "", trunk.net.now)
    trunk.net.flush()
    assert [r.method for r in trunk.heard] == ["INVITE", "ACK", "INVITE"]
    trunk.say(second, 100)
    cancel = trunk.heard[-1]
    assert (cancel.method, cancel.cseq, cancel.via) == ("CANCEL", 2, second.via)


def test_a_bye_is_challenged() -> None:
    """The dialog's number goes on from the request that was sent again."""
    trunk = Trunk()
    trunk.invite()
    trunk.say(trunk.heard[-1], 200, body=ANSWER)
    (answered,) = trunk.station.of(Answered)
    trunk.station.ua.bye(answered.call, trunk.net.now)
    trunk.net.flush()
    trunk.challenge(trunk.heard[-1])
    assert [(r.method, r.cseq) for r in trunk.heard] == [
        ("INVITE", 1),
        ("ACK", 1),
        ("BYE", 2),
        ("BYE", 3),
    ]
    assert right(trunk.heard[-1], "proxy-authorization")


def test_a_reinvite_is_challenged() -> None:
    trunk = Trunk()
    trunk.invite()
    trunk.say(trunk.heard[-1], 200, body=ANSWER)
    (answered,) = trunk.station.of(Answered)
    trunk.station.ua.reinvite(answered.call, OFFER, trunk.net.now)
    trunk.net.flush()
    trunk.challenge(trunk.heard[-1])
    again = trunk.heard[-1]
    assert (again.method, again.cseq) == ("INVITE", 3)
    trunk.say(again, 200, body=ANSWER)
    ack = trunk.heard[-1]
    assert (ack.method, ack.cseq) == ("ACK", 3)
    assert ack.headers.get("proxy-authorization") == again.headers.get("proxy-authorization")
    trunk.station.ua.bye(answered.call, trunk.net.now)
    trunk.net.flush()
    assert (trunk.heard[-1].method, trunk.heard[-1].cseq) == ("BYE", 4)


def test_the_strongest_of_several() -> None:
    offered = [
        'Digest realm="a", nonce="1", algorithm=MD5, qop="auth"',
        'Digest realm="a", nonce="2", algorithm=SHA-512-256, qop="auth"',
        'Digest realm="a", nonce="3", algorithm=SHA-256, qop="auth"',
        'Digest realm="a", nonce="4", algorithm=SHA-1024, qop="auth"',
        'Basic realm="a"',
        "Digest nonsense",
    ]
    (challenge,) = strongest(offered).values()
    assert challenge.nonce == "2"


def test_the_table_of_nonces_is_bounded() -> None:
    auth = AuthClient()
    realms = frozenset(str(n) for n in range(200))
    auth.grant("x", Credential("u", "p", realms), {B})
    lines = (
        f"OPTIONS {TARGET} SIP/2.0",
        f"Via: SIP/2.0/UDP {A};branch=z9hG4bK1",
        f"From: <sip:a@{A}>;tag=1",
        f"To: <{TARGET}>",
        "Call-ID: c",
        "CSeq: 1 OPTIONS",
    )
    request = parse_message("\r\n".join((*lines, "", "")).encode())
    assert isinstance(request, Request)
    for realm in sorted(realms):
        response = Response(status=401, headers=request.headers.copy())
        response.headers.add("www-authenticate", f'Digest realm="{realm}", nonce="n"')
        assert auth.answer(request, response, PROXY, Attempts())
    plain = Request(method="OPTIONS", uri=request.uri)
    auth.prepare(plain, PROXY)
    assert len(plain.headers.get_all("authorization")) == 64


def test_no_password_is_shown() -> None:
    assert "s3cret" not in repr(ALICE)
