"""Answering challenges to our requests (RFC 3261 §22.2, §22.3; RFC 8760 §2.4).

Credentials are bound to the hosts they were given for and to a realm: a stranger whose challenge
reaches us through a call of ours gets no digest to guess the password from.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from ringtrue.telephony.sip.digest import (
    Challenge,
    Credentials,
    digest_response,
    parse_challenge,
    strength,
)
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.responses import printable
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 5
"""Times one request may be sent again with credentials: two proxies, a server, stale nonces."""

MAX_SPACES: Final = 64
"""Protection spaces remembered; the one used longest ago is forgotten first."""

MAX_LEARNED: Final = 8

_HEADERS: Final = {
    401: ("www-authenticate", "authorization"),
    407: ("proxy-authenticate", "proxy-authorization"),
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What one account answers challenges with."""

    user: str
    password: str = field(repr=False)
    realms: frozenset[str]
    """Realms it is meant for; no other challenge is answered."""

    identity: str = ""
    """User part of From in what it is for; preferred where several accounts share a host."""

    learns: bool = False
    """Whether the realm that challenges our REGISTER is one of them too."""


@dataclass(slots=True)
class _Grant:
    credential: Credential
    hosts: frozenset[str]
    learned: set[str]


@dataclass(slots=True)
class _Space:
    """A protection space we have been let into, or asked for."""

    challenge: Challenge
    count: int = 0


_Key = tuple[str, str, str]
"""Header, user, realm."""


@dataclass(slots=True)
class Attempts:
    """What one request has been through so far."""

    sent: int = 0
    answered: set[tuple[str, str]] = field(default_factory=set)
    """(header, realm) of the challenges it answered."""


class AuthClient:
    """Credentials by the hosts they are for, and the challenges that are still good."""

    def __init__(self, cnonce: Callable[[], str] | None = None) -> None:
        """``cnonce`` is for tests; the default can't be guessed."""
        self._cnonce = cnonce or (lambda: secrets.token_hex(16))
        self._grants: dict[str, _Grant] = {}
        self._spaces: OrderedDict[_Key, _Space] = OrderedDict()

    def grant(self, owner: str, credential: Credential, hosts: Iterable[str]) -> None:
        """Let ``credential`` answer challenges to what is sent to ``hosts``.

        ``owner`` names the grant; a new one replaces the old.
        """
        old = self._grants.get(owner)
        learned = old.learned if old is not None else set()
        self._grants[owner] = _Grant(credential, frozenset(hosts), learned)

    def prepare(self, request: Request, hop: Hop) -> None:
        """Add credentials for the challenges that ``hop`` has made before (§22.2, §22.3)."""
        if request.method in ("ACK", "CANCEL"):
            return
        for (header, user, realm), space in list(self._spaces.items()):
            credential = self._credential(request, hop, realm)
            if credential is not None and credential.user == user:
                self._write(request, header, credential, space)

    def answer(self, request: Request, response: Response, hop: Hop, attempts: Attempts) -> bool:
        """Put the credentials that ``response`` asks for into ``request``.

        False where there is nothing new to say: no credential for the realm, or one that was
        just refused.
        """
        if attempts.sent >= MAX_ATTEMPTS:
            return False
        asked, header = _HEADERS[response.status]
        chosen = strongest(response.headers.get_all(asked))
        answered = False
        for realm, challenge in chosen.items():
            if request.method == "REGISTER":
                self._learn(request, hop, realm)
            credential = self._credential(request, hop, realm)
            if credential is None:
                log.warning("sip.challenge_not_ours", realm=printable(realm), method=request.method)
                continue
            if (header, realm) in attempts.answered and not challenge.stale:
                self._spaces.pop((header, credential.user, realm), None)
                return False
            space = _Space(challenge)
            self._remember((header, credential.user, realm), space)
            self._write(request, header, credential, space)
            attempts.answered.add((header, realm))
            answered = True
        attempts.sent += answered
        return answered

    def _candidates(self, request: Request, hop: Hop) -> list[_Grant]:
        """The grants for ``hop``, those for the request's own sender first."""
        uri = request.from_.uri if "from" in request.headers else None
        sender = (uri.user or "") if isinstance(uri, SipUri) else ""
        found = [grant for grant in self._grants.values() if hop.host in grant.hosts]
        return sorted(found, key=lambda grant: grant.credential.identity != sender)

    def _credential(self, request: Request, hop: Hop, realm: str) -> Credential | None:
        for grant in self._candidates(request, hop):
            if realm in grant.credential.realms or realm in grant.learned:
                return grant.credential
        return None

    def _learn(self, request: Request, hop: Hop, realm: str) -> None:
        """A registrar answers REGISTER itself: the realm it names is the account's."""
        for grant in self._candidates(request, hop)[:1]:
            if grant.credential.learns and len(grant.learned) < MAX_LEARNED:
                grant.learned.add(realm)

    def _remember(self, key: _Key, space: _Space) -> None:
        self._spaces[key] = space
        self._spaces.move_to_end(key)
        while len(self._spaces) > MAX_SPACES:
            self._spaces.popitem(last=False)

    def _write(self, request: Request, header: str, credential: Credential, space: _Space) -> None:
        """Set the credentials for one realm, in place of older ones for it."""
        challenge, uri = space.challenge, str(request.uri)
        cnonce: str | None = None
        count: int | None = None
        if challenge.qop:
            space.count += 1
            count = space.count
        if challenge.qop or challenge.algorithm.endswith("-sess"):
            cnonce = self._cnonce()
        value = Credentials(
            user=credential.user,
            realm=challenge.realm,
            nonce=challenge.nonce,
            uri=uri,
            response=digest_response(
                algorithm=challenge.algorithm,
                user=credential.user,
                realm=challenge.realm,
                password=credential.password,
                method=request.method,
                uri=uri,
                nonce=challenge.nonce,
                cnonce=cnonce,
                count=count,
            ),
            algorithm=challenge.algorithm,
            opaque=challenge.opaque,
            cnonce=cnonce,
            count=count,
        )
        mine = f'realm="{challenge.realm}"'
        kept = [old for old in request.headers.get_all(header) if mine not in old]
        request.headers.set(header, [*kept, str(value)])


def strongest(values: Iterable[str]) -> dict[str, Challenge]:
    """The strongest challenge of each realm that we can answer; others are skipped."""
    chosen: dict[str, Challenge] = {}
    for value in values:
        try:
            challenge = parse_challenge(value)
        except SipParseError:
            continue
        known = chosen.get(challenge.realm)
        if known is None or strength(challenge.algorithm) > strength(known.algorithm):
            chosen[challenge.realm] = challenge
    return chosen


def credentials_of(request: Request) -> tuple[tuple[str, str], ...]:
    """The request's credentials, to be repeated in the ACK to its 2xx (§22.1)."""
    return tuple((name, v) for _, name in _HEADERS.values() for v in request.headers.get_all(name))
