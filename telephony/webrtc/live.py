"""The browser calls of this process, each found by its id and the secret its caller was given."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from typing import Final

from ringtrue.telephony.webrtc.calls import WebRtcCall

MAX_SECRET: Final = 128


class LiveCalls:
    """Calls from their answer to their end. As many as are let in: admission bounds them."""

    def __init__(self) -> None:
        """Begin empty."""
        self._calls: dict[str, tuple[bytes, WebRtcCall, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._calls)

    def add(self, call: WebRtcCall) -> str:
        """Keep ``call`` until it ends; the secret that opens it, which isn't kept."""
        secret = secrets.token_urlsafe(32)
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._until_over(call), name=f"{call.id} live")
        self._calls[call.id] = (_digest(secret), call, watch)
        return secret

    def find(self, call_id: str, secret: str) -> WebRtcCall | None:
        """The call, to whoever has its secret; None for all else alike."""
        held = self._calls.get(call_id)
        shown = _digest(secret[: MAX_SECRET + 1])
        if held is None or not hmac.compare_digest(held[0], shown):
            return None
        return held[1]

    async def _until_over(self, call: WebRtcCall) -> None:
        try:
            await call.ended()
        finally:
            del self._calls[call.id]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
