"""Texts spoken over HTTP, as they are made."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ringtrue.agent.api_keys import asker
from ringtrue.agent.problems import HEADERS, wrong
from ringtrue.agent.voices_api_models import SpeechRequest
from ringtrue.streaming.gate import UtteranceDigest
from ringtrue.streaming.refusals import RefusalReport
from ringtrue.voices.ledger import Act, Deed, Speech
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.saying import WavWriter
from ringtrue.voices.spoken import spoken
from ringtrue.voices.store.api_keys import ApiKey
from ringtrue.voices.watermark.marker import Marker


async def spoken_answer(
    library: VoiceLibrary,
    key: ApiKey,
    voice: str,
    what: SpeechRequest,
    *,
    now: datetime,
    over: Callable[[], None],
) -> Response:
    """An answer that speaks ``what`` in ``voice`` (id or name), marked, by ``key``'s leave.

    ``over`` is called once when it has ended, however it did, and where this raises too: what
    :meth:`~ringtrue.voices.library.VoiceLibrary.lease` and the engine raise before the first
    sound, and :class:`~ringtrue.agent.problems.Problem` for a text without a word.
    """
    audio = _pcm(library, key, voice, what, now, over)
    try:
        # Before the answer begins, so that what goes wrong can still be told.
        first = await anext(audio, b"")
    except BaseException:
        await audio.aclose()
        raise
    if not first:
        await audio.aclose()
        raise wrong("text", what.text, "something that can be spoken")
    header = b""
    if what.format == "wav":
        WavWriter(file := io.BytesIO(), what.rate)
        header = file.getvalue()
    media_type = "audio/wav" if what.format == "wav" else f"audio/pcm;rate={what.rate}"
    return _Audio(audio, header + first, media_type)


class _Audio(StreamingResponse):
    """An answer that ends its lease however it ends, unread or broken off too."""

    def __init__(self, audio: AsyncGenerator[bytes], first: bytes, media_type: str) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield first
            async for pcm in audio:
                yield pcm

        super().__init__(content(), media_type=media_type, headers=HEADERS)
        self._audio = audio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._audio.aclose()


async def _pcm(
    library: VoiceLibrary,
    key: ApiKey,
    voice: str,
    what: SpeechRequest,
    now: datetime,
    over: Callable[[], None],
) -> AsyncGenerator[bytes]:
    try:
        lease = await library.lease(
            tenant=key.tenant, voice=voice, agent=key.agent, purpose=what.purpose
        )

        def went_out(digest: UtteranceDigest) -> None:
            library.ledger.spoken(
                Speech(
                    digest,
                    what.rate,
                    key.tenant,
                    lease.voice,
                    lease.engine,
                    lease.version,
                    agent=key.agent,
                    asked_by=asker(key),
                    text=what.text,
                )
            )

        def refused(report: RefusalReport) -> None:
            deed = Deed(Act.REFUSED, key.tenant, lease.voice, agent=key.agent, asked_by=asker(key))
            library.ledger.note(replace(deed, engine=lease.engine, reason=str(report.reason)))

        try:
            marker = Marker(library.config.marks, what.rate, now)
            stream, markup = lease.open(what.rate), lease.speaks_markup
            pcm = spoken(
                stream,
                what.text,
                what.rate,
                marker,
                markup=markup,
                on_digest=went_out,
                on_refusal=refused,
            )
            async with aclosing(pcm):
                async for frames in pcm:
                    yield frames
        finally:
            lease.close()
    finally:
        over()
