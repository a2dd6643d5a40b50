"""A cloned voice in one call: the only thing that speaks with it.

:class:`~ringtrue.voices.library.VoiceLibrary` makes leases and hands out nothing else that could
speak. Every chunk of a lease's streams carries its licence, and none is made without it holding.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final, NoReturn, final

from ringtrue.streaming.budget.lines import Lines
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.recognizers.port import Pulsed
from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.engine import PreparedVoice, Remembering
from ringtrue.voices.licensing import Grant

WAIT_SECONDS: Final = 0.02
"""How often a stream looks whether a licence that is late being renewed holds again."""


class ConsentLostError(SynthesisError):
    """The consent a voice was speaking by is gone."""

    def __init__(self, reason: Reason) -> None:
        """``reason`` is the register's, or that the lease was closed."""
        super().__init__(f"the voice may not speak any more: {reason}")
        self.reason = reason


@final
class CallLicence:
    """Implements :class:`~ringtrue.streaming.ports.Licence` for one lease."""

    __slots__ = ("_closed", "_grant", "distrusted")

    def __init__(self, grant: Grant) -> None:
        """Hold as long as ``grant`` does."""
        self._grant = grant
        self._closed = False
        self.distrusted: Reason | None = None
        """Why it does not hold although the consent stands."""

    @property
    def voice(self) -> str:
        """Id of the voice."""
        return self._grant.question.voice

    @property
    def consent(self) -> str:
        """Serial of the consent; a renewal's, once the one before it is superseded."""
        return self._grant.consent

    def holds(self, now: float) -> bool:
        """Whether the voice may be heard at ``now``, in loop time."""
        return not self._closed and self.distrusted is None and self._grant.holds(now)


@final
class Lease:
    """One voice, for one tenant, agent and purpose, until it is closed or its consent is gone."""

    def __init__(
        self,
        grant: Grant,
        prepared: PreparedVoice,
        on_close: Callable[[Grant], None],
        *,
        engine: str = "",
        version: int = 0,
        speaker: bytes = b"",
        sound: bytes = b"",
        lines: Lines | None = None,
    ) -> None:
        """Use :meth:`~ringtrue.voices.library.VoiceLibrary.lease`."""
        self.speaker = speaker
        """Embedding of who consented, as it is stored; empty where it is not known."""

        self.sound = sound
        """How the voice sounded when it was enrolled; empty where that was not kept."""

        self.engine = engine
        """Id of the engine that speaks it."""

        self.version = version
        """Of the voice's state."""

        self._grant = grant
        self.__prepared = prepared
        self._on_close = on_close
        self._told: list[Callable[[Reason], None]] = []
        self._closed = False
        self._licence = CallLicence(grant)
        self.__lines = Lines() if lines is None else lines
        self._grant.on_lost(self._forget_lines)

    @property
    def licence(self) -> CallLicence:
        """What its audio carries to the gate."""
        return self._licence

    @property
    def voice(self) -> str:
        """Id of the voice."""
        return self._grant.question.voice

    @property
    def speaks_markup(self) -> bool:
        """Whether phrases may hold speech markup."""
        return self.__prepared.speaks_markup

    @property
    def lost(self) -> Reason | None:
        """Why it may not speak any more, its consent gone or its likeness; None while it may."""
        return self._grant.lost or self._licence.distrusted

    def open(self, rate: int) -> SynthesisStream:
        """Start an utterance at ``rate`` Hz (8000 or 16000).

        Raises :class:`ConsentLostError` once the consent is gone or the lease closed.
        """
        if self.lost is not None or self._closed:
            raise ConsentLostError(self.lost or Reason.NO_CONSENT)
        return _LicensedStream(self.__prepared.open(rate), self._licence, self._grant)

    def knows(self, text: str, rate: int) -> bool:
        """Whether :meth:`recall` would give the line ``text`` at ``rate`` Hz."""
        lost = self.lost is not None or self._closed
        return not lost and self.__lines.knows(text, rate)

    def recall(self, text: str, rate: int) -> SynthesisStream | None:
        """A line that the voice said before, under this lease; None where it isn't known.

        Raises :class:`ConsentLostError` once the consent is gone or the lease closed.
        """
        if self.lost is not None or self._closed:
            raise ConsentLostError(self.lost or Reason.NO_CONSENT)
        line = self.__lines.recall(text, rate)
        return line and _LicensedStream(line, self._licence, self._grant)

    async def learn(self, texts: Sequence[str], rate: int) -> None:
        """Make the lines that aren't known yet, off the loop. Never raises."""
        await self.__lines.learn(self.open, texts, rate)

    def on_lost(self, callback: Callable[[Reason], None]) -> None:
        """Call ``callback`` once, on the loop, when the consent is gone; not after closing."""
        self._told.append(callback)
        self._grant.on_lost(callback)

    def distrust(self) -> None:
        """The voice is not its speaker's: it says no more by this lease. Idempotent."""
        if self._closed or self.lost is not None:
            return
        self._licence.distrusted = Reason.LIKENESS
        self._forget_lines(Reason.LIKENESS)
        for callback in self._told:
            self._grant.forget(callback)
            callback(Reason.LIKENESS)

    def close(self) -> None:
        """The call is over; nothing may be heard by this lease any more. Idempotent."""
        if self._closed:
            return
        self._closed = self._licence._closed = True
        for callback in self._told:
            self._grant.forget(callback)
        self._grant.forget(self._forget_lines)
        self._on_close(self._grant)

    def _forget_lines(self, _reason: Reason) -> None:
        """The consent is gone: nothing that the voice said is kept in this process."""
        self.__lines.forget()
        if isinstance(self.__prepared, Remembering):
            self.__prepared.forget()

    def __reduce__(self) -> NoReturn:
        """Refuse: a lease is of one call of one process."""
        raise TypeError("a lease is not pickled or copied; ask the library for another")


class _LicensedStream:
    """An engine's stream, every chunk of it under licence."""

    def __init__(self, stream: SynthesisStream, licence: CallLicence, grant: Grant) -> None:
        self.__stream = stream
        self._licence = licence
        self._grant = grant
        self._cut = False

    @property
    def alive(self) -> bool:
        """Whether the engine is known to work on it."""
        return isinstance(self.__stream, Pulsed) and self.__stream.alive

    def feed(self, phrase: str) -> None:
        """Queue one phrase."""
        self.__stream.feed(phrase)

    def finish(self) -> None:
        """No more phrases."""
        self.__stream.finish()

    def cut(self) -> None:
        """Stop now."""
        self._cut = True
        self.__stream.cut()

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """The engine's chunks; waits while the licence is late being renewed.

        Raises :class:`ConsentLostError` once it is gone.
        """
        chunks = self.__stream.frames()
        try:
            async for chunk in chunks:
                if not await self._allowed():
                    return
                yield replace(chunk, licence=self._licence)
        finally:
            self.__stream.cut()
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def _allowed(self) -> bool:
        loop = asyncio.get_running_loop()
        while not self._cut:
            if self._licence.holds(loop.time()):
                return True
            lost = self._grant.lost or self._licence.distrusted
            if lost is not None or self._licence._closed:
                raise ConsentLostError(lost or Reason.NO_CONSENT)
            await asyncio.sleep(WAIT_SECONDS)
        return False
