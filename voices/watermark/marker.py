"""The gate's watermark stage for one call's leg."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

from ringtrue.streaming.gate import FrameKind
from ringtrue.voices.watermark.embedder import Embedder, excitation
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.token import FORMAT, SESSION_BITS, Token, symbols

_SILENCE: Final = FrameKind.SILENCE


def mark_id(key: str, token: Token) -> str:
    """Format, key and session, as the audit log and reports show them."""
    return f"rt{FORMAT}:{key}:{token.session:08x}"


class Marker:
    """Marks everything one leg sends: speech, silence and tones alike.

    A :class:`~ringtrue.streaming.gate.Watermarker`. Digits go out as events of their own (RFC
    4733), but their audio is marked too.
    """

    __slots__ = (
        "_embedder",
        "_id",
        "_silent",
        "token",
    )

    def __init__(
        self, keys: MarkKeys, rate: int, now: datetime, *, session: int | None = None
    ) -> None:
        """Mark PCM at ``rate`` Hz with a new session number, or the one given.

        Raises :class:`~ringtrue.voices.watermark.errors.WatermarkError` for another rate.
        """
        key = keys.current
        chosen = secrets.randbits(SESSION_BITS) if session is None else session
        self.token = Token(chosen, now)
        self._id = mark_id(key.id, self.token)
        self._embedder = Embedder(excitation(key, symbols(key, self.token)), rate)
        self._silent = True

    @property
    def id(self) -> str:
        """Format, key and session, as the audit log shows them."""
        return self._id

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        """Return ``pcm`` marked: same length, same rate."""
        silent = kind is _SILENCE
        if silent and not self._silent:
            self._embedder.rest()
        self._silent = silent
        return self._embedder.mark(pcm)
