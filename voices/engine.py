"""What an engine that speaks cloned voices offers: cloning once, speaking often.

An engine's *state* is everything it keeps of one voice, as bytes that mean something to it alone.
It is made at enrolment, sealed by whoever stores it, and prepared once per process before calls
speak with it. No engine knows about consent: what it makes is heard only by a
:class:`~ringtrue.streaming.ports.Licence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.ports import SynthesisStream

SPEECH_RATE: Final = 16000
"""Rate in Hz of the speech engines are given."""


@dataclass(frozen=True, slots=True)
class Speech:
    """One speaker's enrolment speech."""

    samples: npt.NDArray[np.float32] = field(repr=False)
    """Mono at :data:`SPEECH_RATE`, full scale 1.0, shape ``(n,)``."""

    statement: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """The recorded statement, whose words are known, in the same form."""

    transcript: str | None = field(default=None, repr=False)
    """The words of ``statement`` as they were to be read."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come."""

    done: float
    """From 0 to 1; never falls."""

    doing: str
    """What is being done, for people, e.g. ``fitting the voice``."""


OnProgress = Callable[[Progress], None]


class PreparedVoice(Protocol):
    """One cloned voice, ready to speak in any number of calls of this process."""

    @property
    def speaks_markup(self) -> bool:
        """Whether phrases may hold speech markup."""
        ...

    def open(self, rate: int) -> SynthesisStream:
        """Start an utterance at ``rate`` Hz (8000 or 16000)."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A prepared voice that keeps what it said, to say it again."""

    def forget(self) -> None:
        """Keep nothing that was said."""
        ...


class VoiceEngine(Protocol):
    """Clones and speaks voices of one kind, off the event loop."""

    @property
    def id(self) -> str:
        """As a voice's profile names it, e.g. ``embedded-1``; changes when states do."""
        ...

    async def warm(self) -> None:
        """Load and compile what the first call would wait for. Idempotent."""
        ...

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        """Make a voice's state; long work, in another process. Cancelling ends it.

        Raises :class:`~ringtrue.voices.errors.CloningError` where the speech won't do.
        """
        ...

    async def prepare(self, state: bytes) -> PreparedVoice:
        """Make a state ready to speak.

        Raises :class:`~ringtrue.voices.errors.EngineStateError` for bytes that are no state of
        this engine.
        """
        ...

    async def close(self) -> None:
        """Release threads, processes and models."""
        ...
