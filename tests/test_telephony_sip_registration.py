"""REGISTER in virtual time: RFC 3665 §2's flows, refresh, failover, back-off, flows that die."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sip_link import A, B, Net, Station

from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer, Verdict
from ringtrue.telephony.sip.events import Event
from ringtrue.telephony.sip.headers import param
from ringtrue.telephony.sip.message import Request, parse_message
from ringtrue.telephony.sip.registration import (
    LookUp,
    Registration,
    RegistrationChanged,
    RegistrationState,
    granted_expires,
)
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.stream import PING, PONG
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

DOMAIN = "sip.example.com"
ACCOUNT = Account(name="trunk", domain=DOMAIN, user="100", password="s3cret", expires=300)
SECOND = "10.0.0.3"


class Provider:
    """Registrars at hand-written addresses, and the user agent that registers at them."""

    def __init__(self, *hosts: str, transport: str = "udp", password: str = "s3cret") -> None:
        self.net = Net()
        self.net.parses = False
        self.station = self.net.add("a", A, transport=transport, on_event=self._event)
        self.hops = [Hop(transport, host, 5060) for host in hosts or (B,)]
        self.auth: AuthServer | None = AuthServer(
            AuthPolicy(realm="voip", users={"100": password}, nonce_lifetime=600)
        )
        self.down: set[str] = set()
        self.least = 60
        self.longest = 300
        self.status: int | None = None
        self.extra: tuple[tuple[str, str], ...] = ()
        self.echo = True
        self.pongs = True
        self.flow_timer: int | None = None
        self.heard: list[tuple[float, str, Request]] = []
        self.pings: list[float] = []
        self.lookups: list[float] = []
        self.net.tap = self._tap

    def register(self, account: Account = ACCOUNT) -> Registration:
        registration = self.station.ua.accounts.add(account, self.net.now)
        self.net.run(self.net.now + 1.0)
        return registration

    def log(self) -> list[tuple[float, str, str]]:
        """(time, host, expires) of every REGISTER heard."""
        return [(round(at, 2), h, r.headers.get("expires") or "") for at, h, r in self.heard]

    def states(self) -> list[RegistrationState]:
        found = self.station.of(RegistrationChanged)
        return [event.state for event in found if isinstance(event, RegistrationChanged)]

    def _event(self, station: Station, event: Event) -> None:
        if isinstance(event, LookUp):
            self.lookups.append(self.net.now)
            station.ua.accounts.resolved(event.call, self.hops, self.net.now)

    def _tap(self, station: Station, hop: Hop, data: bytes) -> bool:
        if hop.host in self.down:
            return False
        if data == PING:
            self.pings.append(self.net.now)
            if self.pongs and hop.reliable:
                self.net.inject(PONG, hop, Hop(hop.transport, A, 5060))
            return False
        message = parse_message(data)
        if isinstance(message, Request) and message.method == "REGISTER":
            self.heard.append((self.net.now, hop.host, message))
            for reply in self._replies(message):
                self.net.inject(reply, hop, Hop(hop.transport, A, 5060))
        return False

    def _replies(self, message: Request) -> list[bytes]:
        asked = int(message.headers.get("expires") or 0)
        if self.status is not None:
            return [make_response(message, self.status, "N\udcff", extra=self.extra).encode()]
        if self.auth is not None:
            verdict = self.auth.judge(message, A, self.net.now)
            if verdict is not Verdict.AUTHENTICATED:
                lines = self.auth.challenges(A, self.net.now, stale=verdict is Verdict.STALE)
                return [make_response(message, 401, to_tag="r", extra=lines).encode()]
        if 0 < asked < self.least:
            extra = (("min-expires", str(self.least)),)
            return [make_response(message, 423, "Interval Too Brief", extra=extra).encode()]
        granted = min(asked, self.longest)
        lines = (("contact", f"<sip:100@other.example>;expires=9,{_bound(message, granted)}"),)
        if not self.echo:
            lines = (("expires", str(granted)),)
        if self.flow_timer is not None:
            lines += (("flow-timer", str(self.flow_timer)),)
        return [make_response(message, 200, to_tag="r", extra=lines).encode()]


def _bound(message: Request, granted: int) -> str:
    return f"{message.headers.get('contact')};expires={granted}"


def test_a_new_registration() -> None:
    """RFC 3665 §2.1: REGISTER, 401, REGISTER with credentials, 200."""
    provider = Provider()
    registration = provider.register()
    first, second = [request for _, _, request in provider.heard]
    assert str(first.uri) == f"sip:{DOMAIN}"
    assert str(first.to.uri) == str(first.from_.uri) == f"sip:100@{DOMAIN}"
    assert first.to.tag is None
    assert "authorization" not in first.headers
    assert (first.cseq, second.cseq) == (1, 2)
    assert first.call_id == second.call_id
    assert first.from_.tag == second.from_.tag
    assert 'realm="voip"' in (second.headers.get("authorization") or "")
    assert str(second.contact) == f"<sip:100@{A}:5060>"
    assert registration.state is RegistrationState.REGISTERED
    assert registration.detail == "for 300 s"
    assert provider.states() == [
        RegistrationState.RESOLVING,
        RegistrationState.REGISTERING,
        RegistrationState.REGISTERED,
    ]


def test_it_is_refreshed_in_time_and_with_one_request() -> None:
    """RFC 3665 §2.2: the nonce is used on, its count goes up; CSeq and Call-ID go on."""
    provider = Provider()
    provider.register()
    provider.net.run(1000.0)
    times = [at for at, _, _ in provider.heard[1:]]
    assert len(times) >= 4
    for earlier, later in zip(times, times[1:], strict=False):
        if later - earlier > 1:
            assert 234 <= later - earlier <= 260.1
    assert [r.cseq for _, _, r in provider.heard] == list(range(1, len(provider.heard) + 1))
    # One challenge at first, one more after the nonce's lifetime of 600 s.
    assert len(provider.heard) == len(times) + 1
    assert provider.auth is not None
    assert provider.auth.counts[Verdict.CHALLENGED] == 1
    assert provider.auth.counts[Verdict.STALE] == 1
    assert RegistrationState.REGISTERED in provider.states()
    assert provider.states().count(RegistrationState.REGISTERED) == 1


def test_what_was_granted_counts_whatever_was_asked() -> None:
    provider = Provider()
    provider.longest = 90
    provider.register(replace(ACCOUNT, expires=3600))
    provider.net.run(60.0)
    assert 45 <= provider.heard[2][0] <= 51
    provider = Provider()
    provider.echo = False
    provider.longest = 120
    assert provider.register().detail == "for 120 s"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("contact", f"<sip:100@{A}:5060>;expires=70, <sip:100@{B}>;expires=60")], 70),
        ([("contact", "<sip:100@198.51.100.7:40000>;expires=90"), ("expires", "600")], 90),
        ([("contact", "<sip:200@198.51.100.7>;expires=90"), ("expires", "200")], 200),
        ([("contact", f"<sip:100@{A}>;expires=x")], 300),
        ([("contact", f"<sip:100@{A}>;expires=0")], 0),
        ([], 300),
    ],
)
def test_which_time_is_ours(lines: list[tuple[str, str]], expected: int) -> None:
    provider = Provider()
    provider.register()
    request = provider.heard[-1][2]
    response = make_response(request, 200, extra=lines)
    assert granted_expires(request, response, 300) == expected


def test_too_brief() -> None:
    """RFC 3261 §10.3 item 7: 423 names what is enough; from then on that is asked for."""
    provider = Provider()
    provider.least = 400
    provider.longest = 500
    registration = provider.register()
    assert registration.detail == "for 400 s"
    assert [expires for _, _, expires in provider.log()] == ["300", "300", "400"]
    provider.net.run(420.0)
    assert provider.log()[-1][2] == "400"


@pytest.mark.parametrize("least", ["", "abc", "10", "99999999"])
def test_an_absurd_423_is_a_failure(least: str) -> None:
    provider = Provider()
    provider.status, provider.extra = 423, (("min-expires", least),)
    registration = provider.register()
    assert registration.state is RegistrationState.WAITING
    assert len(provider.heard) == 1


def test_a_wrong_password_stops() -> None:
    """RFC 3665 §2.5: unsuccessful; then one attempt an hour, not a hammering."""
    provider = Provider(password="another")
    registration = provider.register()
    assert registration.state is RegistrationState.REJECTED
    assert registration.detail == "401 Unauthorized"
    assert len(provider.heard) == 2
    provider.net.run(3500.0)
    assert len(provider.heard) == 2
    provider.net.run(24 * 3600.0)
    assert len(provider.heard) <= 2 * 24
    provider.auth = None
    provider.net.run(25.3 * 3600.0)
    assert registration.state is RegistrationState.REGISTERED


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_account_stops(status: int) -> None:
    provider = Provider(B, SECOND)
    provider.status = status
    assert provider.register().state is RegistrationState.REJECTED
    provider.net.run(1800.0)
    assert len(provider.heard) == 1


def test_the_next_server_takes_over() -> None:
    provider = Provider(B, SECOND)
    provider.down = {B}
    registration = provider.register()
    provider.net.run(33.0)
    assert registration.state is RegistrationState.REGISTERED
    assert registration.hop == Hop("udp", SECOND, 5060)
    assert provider.heard[0][0] == pytest.approx(32.0, abs=0.1)
    # The first one comes back, and is found before long.
    provider.down = set()
    provider.net.run(1300.0)
    assert registration.hop == Hop("udp", B, 5060)
    assert provider.states().count(RegistrationState.WAITING) == 0


def test_it_dies_while_we_are_registered() -> None:
    provider = Provider(B, SECOND)
    registration = provider.register()
    provider.down = {B}
    provider.net.run(300.0)
    assert registration.state is RegistrationState.REGISTERED
    assert registration.hop == Hop("udp", SECOND, 5060)


def test_back_off_grows_and_has_an_end() -> None:
    """RFC 5626 §4.5: doubled each round, half of it random, and never hopeless."""
    provider = Provider()
    provider.status = 500
    provider.register()
    provider.net.run(4 * 3600.0)
    times = [at for at, _, _ in provider.heard]
    waits = [b - a for a, b in zip(times, times[1:], strict=False)]
    for n, wait in enumerate(waits):
        longest = min(600.0, 60.0 * 2**n)
        assert longest / 2 - 1 <= wait <= longest + 1
    assert len(set(waits)) == len(waits)
    assert len(provider.lookups) == len(times)
    provider.status = None
    provider.net.run(provider.net.now + 610)
    assert provider.states()[-1] is RegistrationState.REGISTERED


def test_retry_after_is_kept_to() -> None:
    provider = Provider()
    provider.status, provider.extra = 503, (("retry-after", "500"),)
    provider.register()
    provider.status = None
    provider.net.run(500.0)
    assert len(provider.heard) == 1
    provider.net.run(502.0)
    assert provider.states()[-1] is RegistrationState.REGISTERED


def test_nothing_is_found() -> None:
    provider = Provider()
    provider.hops = []
    registration = provider.register()
    assert (registration.state, registration.detail) == (RegistrationState.WAITING, "no address")
    provider.hops = [Hop("udp", B, 5060)]
    provider.net.run(62.0)
    assert registration.state is RegistrationState.REGISTERED


def test_the_binding_is_taken_back() -> None:
    """RFC 3665 §2.4: REGISTER with Expires 0 and our Contact alone."""
    provider = Provider()
    registration = provider.register()
    provider.station.ua.accounts.end(provider.net.now)
    assert not provider.station.ua.accounts.ended
    provider.net.run(2.0)
    assert provider.log()[-1][2] == "0"
    assert "*" not in (provider.heard[-1][2].headers.get("contact") or "")
    assert registration.state is RegistrationState.ENDED
    assert provider.station.ua.accounts.ended
    provider.net.run(5000.0)
    assert len(provider.heard) == 3
    assert provider.station.ua.sizes()["client"] == 0


def test_ending_without_a_binding_or_an_answer() -> None:
    provider = Provider()
    provider.down = {B}
    registration = provider.register()
    provider.station.ua.accounts.end(provider.net.now)
    assert registration.state is RegistrationState.ENDED
    provider = Provider()
    registration = provider.register()
    provider.down = {B}
    provider.station.ua.accounts.end(provider.net.now)
    provider.net.run(40.0)
    assert (registration.state, registration.detail) == (RegistrationState.ENDED, "no answer")


def test_over_a_lossy_link() -> None:
    """A quarter of all datagrams lost: a day without one lapse of the binding."""
    provider = Provider()
    lost = Net(3, loss=0.0)._rng
    tap = provider._tap

    def lossy(station: Station, hop: Hop, data: bytes) -> bool:
        return False if lost.random() < 0.25 else tap(station, hop, data)

    provider.net.tap = lossy
    registration = provider.register()
    provider.net.run(6 * 3600.0)
    gaps = [b - a for (a, _, _), (b, _, _) in zip(provider.heard, provider.heard[1:], strict=False)]
    assert max(gaps) < 300
    assert registration.state is RegistrationState.REGISTERED


def test_a_proxy_in_between() -> None:
    provider = Provider()
    proxy = SipUri("edge.example.net", 5070)
    account = replace(ACCOUNT, proxy=proxy, transport="tcp", auth_user="u-100")
    registration = provider.register(account)
    assert provider.heard[0][2].headers.get("route") == "<sip:edge.example.net:5070;lr>"
    lookup = provider.station.of(LookUp)[0]
    assert isinstance(lookup, LookUp)
    assert [str(uri) for uri in lookup.targets] == ["sip:edge.example.net:5070;transport=tcp"]
    assert 'username="u-100"' in (provider.heard[1][2].headers.get("authorization") or "")
    assert registration.state is RegistrationState.REJECTED  # the registrar knows no such user


def test_two_accounts_with_one_provider() -> None:
    provider = Provider()
    provider.auth = AuthServer(AuthPolicy(realm="voip", users={"100": "s3cret", "200": "other"}))
    one = provider.register()
    two = provider.register(replace(ACCOUNT, name="two", user="200", password="other"))
    assert one.state is two.state is RegistrationState.REGISTERED
    assert provider.auth.counts[Verdict.WRONG] == 0


def test_a_static_account_only_answers_challenges() -> None:
    provider = Provider()
    registration = provider.register(replace(ACCOUNT, register=False))
    assert registration.state is RegistrationState.STATIC
    assert registration.hop == Hop("udp", B, 5060)
    assert provider.station.ua.accounts.serves(B)
    assert provider.station.ua.accounts.serves(DOMAIN)
    assert not provider.station.ua.accounts.serves(SECOND)
    provider.net.run(700.0)
    assert provider.heard == []
    assert len(provider.lookups) == 3
    provider.station.ua.accounts.end(provider.net.now)
    assert provider.station.ua.accounts.ended


# -- flows (RFC 5626) ------------------------------------------------------------------------


def test_keepalive_over_udp() -> None:
    provider = Provider()
    provider.register()
    provider.net.run(200.0)
    gaps = [b - a for a, b in zip(provider.pings, provider.pings[1:], strict=False)]
    assert len(gaps) >= 5
    assert all(24 <= gap <= 29.1 for gap in gaps)


def test_pings_on_a_stream_and_a_pong_that_does_not_come() -> None:
    provider = Provider(transport="tcp")
    registration = provider.register()
    assert param(registration.account.aor.params, "transport") is None
    assert "transport=tcp" in str(provider.heard[0][2].contact)
    provider.net.run(230.0)
    assert len(provider.pings) == 2
    assert 95 <= provider.pings[1] - provider.pings[0] <= 120
    before = len(provider.heard)
    provider.pongs = False
    provider.net.run(provider.pings[-1] + 120.1 + 13)
    # 10 s after the ping that nothing answered, registered again at most 2 s later.
    assert RegistrationState.WAITING in provider.states()
    assert registration.state is RegistrationState.REGISTERED
    assert len(provider.heard) > before


def test_a_server_that_knows_no_pongs_is_left_alone() -> None:
    provider = Provider(transport="tcp")
    provider.pongs = False
    provider.register()
    provider.net.run(2000.0)
    assert RegistrationState.WAITING not in provider.states()
    assert len(provider.pings) > 10


def test_the_servers_flow_timer() -> None:
    provider = Provider(transport="tcp")
    provider.flow_timer = 30
    provider.register()
    provider.net.run(200.0)
    gaps = [b - a for a, b in zip(provider.pings, provider.pings[1:], strict=False)]
    assert all(24 <= gap <= 30 for gap in gaps)
    assert len(gaps) >= 5


def test_the_stream_is_closed() -> None:
    provider = Provider(transport="tcp")
    registration = provider.register()
    provider.net.run(10.0)
    provider.station.ua.disconnected(Hop("tcp", B, 5060), provider.net.now)
    provider.net.flush()
    assert (registration.state, registration.detail) == (
        RegistrationState.WAITING,
        "connection lost",
    )
    provider.net.run(12.1)
    assert registration.state is RegistrationState.REGISTERED


NASTY = ("", ",", '"', "<", "*", "<sip:a@b>;expires=\u00b2", "<sip:[::>", "\udcff", "-1", "9" * 30)


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize(
    "header",
    ["service-route", "contact", "expires", "flow-timer", "min-expires", "retry-after"]
    + ["www-authenticate", "proxy-authenticate"],
)
def test_whatever_the_registrar_says_nothing_raises(header: str, value: str) -> None:
    for status in (200, 401, 407, 423, 503):
        provider = Provider()
        provider.status, provider.extra = status, ((header, value),)
        registration = provider.register()
        assert registration.state is not RegistrationState.RESOLVING
        assert registration.detail.isascii()


def test_no_secret_is_shown() -> None:
    assert "s3cret" not in repr(ACCOUNT)
