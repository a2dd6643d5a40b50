"""Who may call us: challenges to new calls and the check of their answers (RFC 3261 §22, RFC 7616).

A challenge keeps no state: a nonce carries its time and whom it was made for under a MAC. What a
caller may learn is only whether its credentials are right: an unknown user, a wrong password and
a source that tried too often all get the same challenge.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringtrue.streaming.throttle import FailureThrottle
from ringtrue.telephony.sip.digest import (
    ALGORITHMS,
    Challenge,
    Credentials,
    digest_response,
    parse_credentials,
)
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.uas import Refusal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_NONCES: Final = 4096
"""Nonces in use at once; where one more is needed, the oldest ones have to be asked for again."""

WINDOW: Final = 64
"""How far a nonce count may come late; each is taken once (as RFC 4303 §3.4.3 does)."""

_STAMP: Final = struct.Struct(">Q8s")
_MAC_BYTES: Final = 16
_NONCE_CHARS: Final = 44


class Verdict(StrEnum):
    """What became of a new call's request; also a metric's label."""

    TRUSTED = "trusted"
    """Its source needs no password."""

    AUTHENTICATED = "authenticated"
    CHALLENGED = "challenged"
    """It came without credentials for us."""

    STALE = "stale"
    """Right or wrong, its nonce is too old, was for another source, or is used up."""

    WRONG = "wrong"
    """Unknown user, wrong password, or credentials that can't be read."""

    THROTTLED = "throttled"
    """Its source was wrong too often; its credentials were not looked at."""

    FORBIDDEN = "forbidden"
    """There are no users, and its source is not a trusted one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthPolicy:
    """Who may call."""

    realm: str
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name to password."""

    trusted: tuple[Network, ...] = ()
    """Sources that need no password."""

    algorithms: tuple[str, ...] = ALGORITHMS
    """Offered, in this order (RFC 8760 §2.3)."""

    nonce_lifetime: float = 300.0


@dataclass(slots=True)
class _Counts:
    """Which nonce counts of one nonce were taken: the highest, and a window below it."""

    issued: float
    highest: int = 0
    window: int = 0

    def take(self, count: int) -> bool:
        """Take ``count``; False where it was taken before, or is too far back to know."""
        ahead = count - self.highest
        if ahead > 0:
            self.window = (self.window << ahead | 1) & (1 << WINDOW) - 1 if ahead < WINDOW else 1
            self.highest = count
            return True
        if -ahead >= WINDOW or self.window >> -ahead & 1:
            return False
        self.window |= 1 << -ahead
        return True


class AuthServer:
    """Judges the requests that would make new calls."""

    def __init__(
        self,
        policy: AuthPolicy,
        *,
        is_own: Callable[[str], bool] = lambda host: False,
        throttle: FailureThrottle | None = None,
        token: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """``is_own`` says whether a host is one of our registrars'; those are trusted.

        ``token`` makes random bytes; it is for tests.
        """
        self._policy = policy
        self._is_own = is_own
        self._throttle = FailureThrottle() if throttle is None else throttle
        self._token = token
        self._key = token(32)
        self._nobody = token(16).hex()
        self._used: OrderedDict[str, _Counts] = OrderedDict()
        self._floor = float("-inf")
        self.counts: Counter[Verdict] = Counter()
        """How often each verdict was given."""

    def refusal(self, request: Request, host: str, now: float) -> Refusal | None:
        """What ``request`` from ``host`` is answered with; None where it may make a call."""
        verdict = self.judge(request, host, now)
        if verdict in (Verdict.TRUSTED, Verdict.AUTHENTICATED):
            return None
        if verdict is Verdict.FORBIDDEN:
            return Refusal(403)
        return Refusal(401, self.challenges(host, now, stale=verdict is Verdict.STALE))

    def judge(self, request: Request, host: str, now: float) -> Verdict:
        """Whether ``request`` from ``host`` may make a call."""
        verdict = self._judge(request, host, now)
        self.counts[verdict] += 1
        return verdict

    def challenges(self, host: str, now: float, *, stale: bool) -> tuple[tuple[str, str], ...]:
        """The WWW-Authenticate lines of a 401 to ``host``, one for each algorithm."""
        nonce = self._nonce(host, now)
        return tuple(
            (
                "www-authenticate",
                str(Challenge(self._policy.realm, nonce, algorithm, stale=stale)),
            )
            for algorithm in self._policy.algorithms
        )

    # -- the verdict -------------------------------------------------------------------------

    def _judge(self, request: Request, host: str, now: float) -> Verdict:
        if self.trusts(host):
            return Verdict.TRUSTED
        if not self._policy.users:
            return Verdict.FORBIDDEN
        credentials = self._credentials(request)
        if credentials is None:
            return Verdict.CHALLENGED
        if self._throttle.wait(host, now) > 0:
            return Verdict.THROTTLED
        if isinstance(credentials, SipParseError):
            self._throttle.failed(host, now)
            return Verdict.WRONG
        issued = self._issued(credentials.nonce, host)
        if issued is None or not 0 <= now - issued <= self._policy.nonce_lifetime:
            return Verdict.STALE
        if not self._right(request, credentials):
            self._throttle.failed(host, now)
            return Verdict.WRONG
        if not self._take(credentials, issued, now):
            return Verdict.STALE
        return Verdict.AUTHENTICATED

    def trusts(self, host: str) -> bool:
        """Whether calls from ``host`` need no password."""
        if self._is_own(host):
            return True
        if not self._policy.trusted:
            return False
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._policy.trusted)

    def _credentials(self, request: Request) -> Credentials | SipParseError | None:
        """The credentials for our realm; None where there are none."""
        broken: SipParseError | None = None
        for value in request.headers.get_all("authorization"):
            try:
                credentials = parse_credentials(value)
            except SipParseError as error:
                broken = error
                continue
            if credentials.realm == self._policy.realm:
                return credentials
        return broken

    def _right(self, request: Request, credentials: Credentials) -> bool:
        """Whether the response is that of the user's password; the same work for unknown users.

        The digest's URI is not compared with the Request-URI: proxies change the latter. The
        nonce is good once per count, so there is nothing to be reused for another URI.
        """
        algorithm = credentials.algorithm.removesuffix("-sess")
        if algorithm not in self._policy.algorithms or credentials.count is None:
            return False
        password = self._policy.users.get(credentials.user)
        expected = digest_response(
            algorithm=credentials.algorithm,
            user=credentials.user,
            realm=credentials.realm,
            password=self._nobody if password is None else password,
            method=request.method,
            uri=credentials.uri,
            nonce=credentials.nonce,
            cnonce=credentials.cnonce,
            count=credentials.count,
        )
        given = credentials.response.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(expected.encode(), given) and password is not None

    # -- nonces ------------------------------------------------------------------------------

    def _nonce(self, host: str, now: float) -> str:
        stamp = _STAMP.pack(max(0, int(now * 1000)), self._token(8))
        return base64.urlsafe_b64encode(stamp + self._mac(stamp, host)).decode().rstrip("=")

    def _issued(self, nonce: str, host: str) -> float | None:
        """When we made ``nonce`` for ``host``; None where we didn't."""
        if not nonce.isascii() or len(nonce) > _NONCE_CHARS:
            return None
        try:
            data = base64.b64decode(nonce + "=" * (-len(nonce) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        stamp, mac = data[: _STAMP.size], data[_STAMP.size :]
        if len(stamp) != _STAMP.size or not hmac.compare_digest(mac, self._mac(stamp, host)):
            return None
        return float(_STAMP.unpack(stamp)[0]) / 1000

    def _mac(self, stamp: bytes, host: str) -> bytes:
        data = stamp + host.encode("utf-8", "surrogateescape")
        return hmac.new(self._key, data, hashlib.sha256).digest()[:_MAC_BYTES]

    def _take(self, credentials: Credentials, issued: float, now: float) -> bool:
        """Take the nonce count; False where it was used before.

        A nonce that had to be forgotten, and all that are as old, are not good any more.
        """
        counts = self._used.get(credentials.nonce)
        if counts is None:
            if issued <= self._floor:
                return False
            self._sweep(now)
            counts = self._used[credentials.nonce] = _Counts(issued)
        return credentials.count is not None and counts.take(credentials.count)

    def _sweep(self, now: float) -> None:
        """Forget nonces that are expired, and the oldest where there are too many."""
        while self._used:
            nonce, oldest = next(iter(self._used.items()))
            expired = now - oldest.issued > self._policy.nonce_lifetime
            if not expired and len(self._used) < MAX_NONCES:
                return
            del self._used[nonce]
            if not expired:
                self._floor = max(self._floor, oldest.issued)


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read addresses and networks (``192.0.2.0/24``). Raises ValueError naming a bad one."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
