"""Twilio's Voice REST interface, as far as calls are placed and ended with it.

Source: https://www.twilio.com/docs/voice/api/call-resource: Basic authentication with the account's
SID and token, form bodies, JSON answers; errors have ``code`` and ``message``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.lifetime import Closing
from ringtrue.telephony.twilio.status import CallStatus

API: Final = "https://api.twilio.com"
TIMEOUT: Final = httpx.Timeout(10.0)
ATTEMPTS: Final = 3
MAX_PAUSE: Final = 5.0
"""Seconds waited at most before another attempt; told to wait longer, we give up."""

EVENTS: Final = ("initiated", "ringing", "answered", "completed")
MAX_RING: Final = 600
"""Seconds a call may ring, Twilio's own limit."""

_ACCOUNT: Final = re.compile(r"AC[0-9a-fA-F]{32}")
_SID: Final = re.compile(r"CA[0-9a-fA-F]{32}")


class TwilioRestError(RingtrueError):
    """Twilio did not do what was asked; the text holds none of the numbers."""

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """``status`` is HTTP's, None where there was no answer; ``code`` is Twilio's own
        (https://www.twilio.com/docs/api/errors)."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class CallResource:
    """A call as Twilio has it."""

    sid: str
    status: CallStatus
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be placed."""

    to: str = field(repr=False)
    caller: str = field(repr=False)
    twiml: str = field(repr=False)
    """What Twilio does once it is answered; it holds the stream's token."""

    status_callback: str
    ring_seconds: float
    detect_machines: str | None = None
    """Where to be told, while the call goes on, whether a machine answered."""

    def form(self) -> list[tuple[str, str]]:
        """The request's body."""
        form = [
            ("To", self.to),
            ("From", self.caller),
            ("Twiml", self.twiml),
            ("Timeout", str(min(MAX_RING, max(1, round(self.ring_seconds))))),
            ("StatusCallback", self.status_callback),
            ("StatusCallbackMethod", "POST"),
            *(("StatusCallbackEvent", event) for event in EVENTS),
        ]
        if self.detect_machines is not None:
            form += [
                ("MachineDetection", "Enable"),
                ("AsyncAmd", "true"),
                ("AsyncAmdStatusCallback", self.detect_machines),
                ("AsyncAmdStatusCallbackMethod", "POST"),
            ]
        return form


class TwilioRest(Closing):
    """A client for one account; close it after use."""

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        base_url: str = API,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Raises ``ValueError`` for what is no account SID, or an empty token."""
        if not _ACCOUNT.fullmatch(account_sid):
            raise ValueError("account_sid is not AC and 32 hexadecimal digits")
        if not auth_token:
            raise ValueError("auth_token is empty")
        self.account_sid = account_sid
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            base_url=f"{base_url.rstrip('/')}/2010-04-01/Accounts/{account_sid}",
            auth=(account_sid, auth_token),
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )

    async def create(self, call: NewCall) -> CallResource:
        """Place a call; tried again only where Twilio says that it did nothing (429).

        Raises :class:`TwilioRestError`.
        """
        return _resource(await self._post("/Calls.json", call.form(), again=frozenset({429})))

    async def update(
        self, sid: str, *, status: str | None = None, twiml: str | None = None
    ) -> CallResource:
        """End a call (``canceled``: only if unanswered; ``completed``) or have it do ``twiml``.

        Raises :class:`TwilioRestError`.
        """
        form = [(name, value) for name, value in (("Status", status), ("Twiml", twiml)) if value]
        return _resource(await self._post(f"/Calls/{_checked(sid)}.json", form))

    async def fetch(self, sid: str) -> CallResource:
        """How a call stands. Raises :class:`TwilioRestError`."""
        return _resource(await self._request("GET", f"/Calls/{_checked(sid)}.json"))

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _post(
        self,
        path: str,
        form: Sequence[tuple[str, str]],
        again: frozenset[int] = frozenset({429, 500, 502, 503, 504}),
    ) -> Mapping[str, Any]:
        data: dict[str, list[str]] = {}
        for name, value in form:
            data.setdefault(name, []).append(value)
        return await self._request("POST", path, data, again)

    async def _request(
        self,
        method: str,
        path: str,
        data: Mapping[str, list[str]] | None = None,
        again: frozenset[int] = frozenset({429, 500, 502, 503, 504}),
    ) -> Mapping[str, Any]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._client.request(method, path, data=data)
            except httpx.HTTPError as error:
                raise TwilioRestError(f"no answer from Twilio: {type(error).__name__}") from None
            if response.is_success:
                return _object(response)
            refusal = _refusal(response)
            pause = attempt * 0.5 if refusal.retry_after is None else refusal.retry_after
            if response.status_code not in again or attempt == ATTEMPTS or pause > MAX_PAUSE:
                raise refusal
            await self._sleep(pause)
        raise AssertionError("unreachable")


def _checked(sid: str) -> str:
    """``sid``, which becomes part of a path."""
    if not _SID.fullmatch(sid):
        raise TwilioRestError("not a call's SID")
    return sid


def _object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        value = response.json()
    except ValueError as error:
        raise TwilioRestError("Twilio's answer is not JSON", status=response.status_code) from error
    if not isinstance(value, dict):
        raise TwilioRestError("Twilio's answer is no object", status=response.status_code)
    return value


def _resource(value: Mapping[str, Any]) -> CallResource:
    sid, status, answered_by = value.get("sid"), value.get("status"), value.get("answered_by")
    if not isinstance(sid, str) or not _SID.fullmatch(sid):
        raise TwilioRestError("Twilio's answer has no call SID")
    try:
        known = CallStatus(str(status))
    except ValueError:
        raise TwilioRestError("Twilio's answer has a status that isn't known") from None
    return CallResource(sid, known, answered_by if isinstance(answered_by, str) else None)


def _refusal(response: httpx.Response) -> TwilioRestError:
    """What a refusal says, but its message, which repeats the numbers."""
    code: int | None = None
    try:
        value = response.json()
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("code"), int):
        code = value["code"]
    wait = response.headers.get("Retry-After", "")
    retry_after = float(wait) if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,3})?", wait) else None
    named = "" if code is None else f", error {code}"
    return TwilioRestError(
        f"Twilio answered {response.status_code}{named}",
        status=response.status_code,
        code=code,
        retry_after=retry_after,
    )
