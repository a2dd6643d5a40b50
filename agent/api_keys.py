"""Who a request of the HTTP interface comes from: a bearer key (RFC 6750), and what it may do.

The tenant comes from the key and from nowhere else. Wrong keys are answered alike and, after a
few, not looked at for a while; keys that were right lately still are, so that one bad neighbour
behind the same proxy locks nobody out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final

import structlog
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.problems import Problem, busy
from ringtrue.streaming.throttle import FailureThrottle
from ringtrue.voices.store.api_keys import ApiKey, ApiKeyStore, ApiScope
from ringtrue.voices.store.errors import ApiKeyError

log = structlog.get_logger(__name__)

MAX_KNOWN: Final = 1024
"""Keys remembered as right."""

LOGIN_AGAIN: Final = 3600.0
"""Seconds after which a key's use is recorded again."""

_BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="A key made by `ringtrue keys create`, with the scope each operation names.",
)


class Gatekeeper:
    """Looks at keys."""

    def __init__(
        self,
        keys: Callable[[], ApiKeyStore],
        *,
        clock: Callable[[], datetime],
        throttle: FailureThrottle | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """``keys`` gives the store, or raises; ``clock`` the time of day, with its zone.

        ``recorder`` is told of every refusal, and of a key's first use in :data:`LOGIN_AGAIN`.
        """
        self._recorder = recorder
        self._logins: OrderedDict[str, float] = OrderedDict()
        self._keys = keys
        self._clock = clock
        self._throttle = FailureThrottle() if throttle is None else throttle
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def admit(self, token: str | None, address: str, scope: ApiScope) -> ApiKey:
        """The key of a request from ``address`` that needs ``scope``.

        Raises :class:`~ringtrue.agent.problems.Problem`: 401 without a valid key, 403 where it
        lacks the scope, 429 after too many wrong ones.
        """
        if token is None:
            raise _unauthorized("an API key is needed: Authorization: Bearer rtk_…")
        now = asyncio.get_running_loop().time()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        wait = self._throttle.wait(address, now)
        if wait > 0 and digest not in self._known:
            raise busy("too many wrong API keys from this address", wait, status=429)
        try:
            key = await self._keys().authenticate(token, self._clock())
        except ApiKeyError as error:
            self._known.pop(digest, None)
            self._throttle.failed(address, now)
            log.warning("api_key.refused", client=address)
            self._record(Kind.LOGIN_FAILED, address, reason="key")
            raise _unauthorized(str(error)) from None
        self._known[digest] = None
        self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        if not key.allows(scope):
            self._record(Kind.LOGIN_FAILED, address, key, reason=f"scope {scope.value}")
            raise Problem(
                403,
                "missing-scope",
                f"this API key lacks the scope {scope}; it has: {', '.join(sorted(key.scopes))}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
                scope=scope.value,
            )
        self._logged_in(key, address, now)
        return key

    def _logged_in(self, key: ApiKey, address: str, now: float) -> None:
        if now - self._logins.get(key.id, -LOGIN_AGAIN) < LOGIN_AGAIN:
            return
        self._logins[key.id] = now
        self._logins.move_to_end(key.id)
        while len(self._logins) > MAX_KNOWN:
            self._logins.popitem(last=False)
        self._record(Kind.LOGIN, address, key)

    def _record(
        self, kind: Kind, address: str, key: ApiKey | None = None, reason: str | None = None
    ) -> None:
        if self._recorder is None:
            return
        detail: dict[str, str | int | bool] = {"client": address}
        if reason is not None:
            detail["reason"] = reason
        tenant, requester = (None, None) if key is None else (key.tenant, asker(key))
        self._recorder.record(Event(kind, tenant=tenant, requester=requester, detail=detail))


def asker(key: ApiKey) -> str:
    """The holder of a key, as records name who asked."""
    return f"api-key:{key.id}"


def needs(scope: ApiScope) -> Callable[..., Awaitable[ApiKey]]:
    """A dependency that gives the request's key, or refuses; ``app.state.gatekeeper`` decides."""

    async def key(
        request: Request,
        shown: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> ApiKey:
        gatekeeper: Gatekeeper = request.app.state.gatekeeper
        address = request.client.host if request.client else ""
        return await gatekeeper.admit(shown.credentials if shown else None, address, scope)

    return key


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
