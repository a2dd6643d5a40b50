"""A text spoken outside of a call, to a file, a pipe or over HTTP: through a gate, as in a call.

Whatever leaves the process passes here: checked against its licence frame by frame, marked, and
hashed. Where a frame may not be heard, nothing more is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, cast

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.gate import (
    Draft,
    Gate,
    Refusal,
    UtteranceDigest,
    Watermarker,
    licence_holds,
)
from ringtrue.streaming.ports import Licence, SpeechChunk, SynthesisStream, frame_bytes
from ringtrue.streaming.refusals import OnRefusal
from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.lease import WAIT_SECONDS, ConsentLostError
from ringtrue.voices.saying import said

LATE_SECONDS: Final = 1.0
"""How long a licence may be late being renewed before it counts as gone."""


class SpeechRefusedError(SynthesisError):
    """The gate let a frame not pass."""

    def __init__(self, refusal: Refusal) -> None:
        """``refusal`` is the gate's."""
        super().__init__(f"the speech may not go out: {refusal}")
        self.refusal = refusal


async def spoken(
    stream: SynthesisStream,
    text: str,
    rate: int,
    watermarker: Watermarker,
    *,
    markup: bool = True,
    on_digest: Callable[[UtteranceDigest], None] | None = None,
    on_refusal: OnRefusal | None = None,
) -> AsyncGenerator[bytes]:
    """``text`` spoken on ``stream`` (of ``rate`` Hz), marked: whole frames of PCM as they are made.

    The last frame is filled up with silence. Leaving off early cuts the stream. ``markup`` is the
    voice's ``speaks_markup``; ``on_digest`` is told what went out, once it ends, however it ends,
    ``on_refusal`` of a frame that the gate did not let out.

    Raises :class:`~ringtrue.voices.lease.ConsentLostError` once the voice may not be heard,
    :class:`SpeechRefusedError` where a frame can't be marked, and
    :class:`~ringtrue.streaming.errors.SynthesisError` where the engine fails.
    """
    outlet = _Outlet(rate, watermarker, on_digest, on_refusal)
    try:
        chunks = cast(AsyncGenerator[SpeechChunk], said(stream, text, markup=markup))
        async with aclosing(chunks):
            async for chunk in chunks:
                now = await _heard_at(chunk.licence)
                if pcm := outlet.sealed(chunk.pcm, chunk.licence, now):
                    yield pcm
        if pcm := outlet.rest(await _heard_at(outlet.licence)):
            yield pcm
    finally:
        outlet.close()


async def _heard_at(licence: Licence | None) -> float:
    """The loop's time, once ``licence`` holds: it may be late being renewed, but not for long."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    given_up = now + LATE_SECONDS
    while licence is not None and not licence_holds(licence, now):
        if now >= given_up:
            raise ConsentLostError(Reason.NO_CONSENT)
        await asyncio.sleep(WAIT_SECONDS)
        now = loop.time()
    return now


class _Outlet:
    """One text's gate, and what doesn't fill a frame yet."""

    def __init__(
        self,
        rate: int,
        watermarker: Watermarker,
        on_digest: Callable[[UtteranceDigest], None] | None,
        on_refusal: OnRefusal | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._size = frame_bytes(rate)
        self._gate = Gate(
            f"speech-{secrets.token_hex(8)}",
            rate,
            opened_at=loop.time(),
            last_heard=loop.time,  # whoever reads it is there
            watermarker=watermarker,
            on_digest=on_digest,
            on_refusal=on_refusal,
        )
        self._ticket = self._gate.open_utterance()
        self._sealer = self._gate.provenance.utterance()
        self._kept = b""
        self.licence: Licence | None = None
        """Of what is kept."""

    def sealed(self, pcm: bytes, licence: Licence | None, now: float) -> bytes:
        """Whole frames, of what is kept and ``pcm``. Raises as :func:`spoken` does."""
        self.licence = licence
        whole = self._kept + pcm
        end = len(whole) - len(whole) % self._size
        self._kept = whole[end:]
        starts = range(0, end, self._size)
        return b"".join(self._frame(whole[at : at + self._size], now) for at in starts)

    def rest(self, now: float) -> bytes:
        """What is kept, filled up."""
        return self.sealed(bytes(-len(self._kept) % self._size), self.licence, now)

    def close(self) -> None:
        """No more; hands over the digest."""
        self._gate.close()

    def _frame(self, pcm: bytes, now: float) -> bytes:
        chunk = self._sealer.seal(pcm, now, licence=self.licence)
        frame = self._gate.admit(Draft.whole(self._ticket, chunk), now)
        for refusal in self._gate.stats.refused:
            if refusal is Refusal.CONSENT:
                raise ConsentLostError(Reason.NO_CONSENT)
            raise SpeechRefusedError(refusal)
        return frame.pcm
