"""What the rooms agree on: the media leg, the call, and the synthesis engine.

``telephony`` implements :class:`MediaLeg` and :class:`Call`, ``voices`` implements
:class:`SynthesisEngine`, ``streaming`` uses them and ``agent`` joins them; neither of the
two implementers knows the other.

Units used everywhere: PCM is signed 16-bit little-endian mono; a *frame* is 20 ms
(160 samples at 8 kHz, 320 at 16 kHz); positions are counted in samples at the leg's rate;
``now`` is seconds on the event loop's monotonic clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ringtrue.streaming.inbound import Inbound as Inbound

if TYPE_CHECKING:
    from ringtrue.streaming.gate import SealedFrame

FRAME_MS = 20
"""Length of one media frame in milliseconds."""

FRAMES_PER_SECOND = 1000 // FRAME_MS


def frame_samples(rate: int) -> int:
    """Samples in one 20 ms frame at ``rate`` Hz."""
    return rate // FRAMES_PER_SECOND


def frame_bytes(rate: int) -> int:
    """Bytes in one 20 ms frame of 16-bit mono PCM at ``rate`` Hz."""
    return 2 * frame_samples(rate)


class Direction(StrEnum):
    """Who placed the call, seen from this server."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class EndReason(StrEnum):
    """Why a call ended; the same for every transport."""

    CALLER_HUNG_UP = "caller_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    TRANSFER_REQUESTED = "transfer_requested"
    """The dialogue asked for a transfer that this transport can't make; the call was ended."""

    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAR_END_LOST = "far_end_lost"
    MAX_DURATION = "max_duration"
    SHUTDOWN = "shutdown"
    ERROR = "error"


class TransferOutcome(StrEnum):
    """What came of a transfer."""

    TRANSFERRED = "transferred"
    """Whoever the far end called has answered it."""

    FAILED = "transfer_failed"
    """It was refused, by the far end or by whoever it called."""

    DECLINED = "transfer_declined"
    """Whoever answered didn't take the caller."""

    UNSUPPORTED = "transfer_unsupported"
    """The far end can't be transferred."""

    UNCONFIRMED = "transfer_unconfirmed"
    """The far end took it, and hung up, or fell silent, before it told how it went."""

    NOT_TRIED = "transfer_not_tried"
    """It was not asked: too many transfers, or the request couldn't be made."""


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What came of a transfer, and the transport's own word for it."""

    outcome: TransferOutcome
    status: int | None = None
    """SIP status of the call that the far end placed, or of its refusal; None: it said none."""


@runtime_checkable
class Transferring(Protocol):
    """A call whose far end can be asked to call somebody else."""

    async def transfer(
        self, to: str, *, within: float, replaces: Call | None = None
    ) -> TransferResult:
        """Ask it to call ``to``, a SIP or tel URI or a number with ``+``.

        ``replaces`` is a call of ours that the new one is to take the place of (RFC 3891); ``to``
        is then left aside for that call's own far end.

        Returns once it has told how that went, after ``within`` seconds, or when the call is
        over; what the caller hears meanwhile is up to whoever speaks on its leg. Where it went
        well the far end is still to be hung up on. Raises a
        :class:`~ringtrue.streaming.errors.RingtrueError` where it can't be asked: ``to`` is no
        address, another transfer is under way, or the call is over.
        """
        ...


@runtime_checkable
class Holdable(Protocol):
    """A leg whose far end can put us on hold."""

    @property
    def held(self) -> bool:
        """The far end wants no audio from us now; what it sends is not meant for us."""
        ...


@runtime_checkable
class Confirming(Protocol):
    """A leg whose far end plays what it was sent later, and drops what it has not played where
    :meth:`MediaLeg.clear` says so."""

    def played_by(self, now: float) -> int | None:
        """Samples of sent audio that it has played, or dropped, by ``now``; None where it never
        tells.

        An estimate between two of its confirmations, never beyond the next one.
        """
        ...


@runtime_checkable
class Holding(Protocol):
    """A call whose far end can be put on hold."""

    async def hold(self, on: bool = True) -> None:
        """Tell the far end, and return once it agreed.

        Raises a :class:`~ringtrue.streaming.errors.RingtrueError` where it doesn't, or where the
        call can't change at the moment.
        """
        ...


@dataclass(slots=True)
class LegStats:
    """Counters of one media leg since it opened. All monotonic unless said otherwise."""

    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    packets_duplicate: int = 0
    packets_refused: int = 0
    """From an unlatched source, malformed, or of an unknown payload type."""

    frames_concealed: int = 0
    frames_sent_late: int = 0
    jitter_ms: float = 0.0
    """RFC 3550 interarrival jitter, current value."""

    jitter_buffer_ms: float = 0.0
    """Depth the jitter buffer aims at, current value."""

    round_trip_ms: float | None = None
    """From RTCP or the transport's own report; None while unknown."""

    extra: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class MediaLeg(Protocol):
    """One caller's audio, both ways, driven by the media clock: one pull and one send a tick."""

    @property
    def rate(self) -> int:
        """PCM rate in Hz for both directions: 8000 or 16000."""
        ...

    @property
    def stats(self) -> LegStats:
        """Live counters."""
        ...

    def pull(self, now: float) -> Inbound:
        """The next 20 ms from the caller; never blocks, never raises."""
        ...

    def send(self, frame: SealedFrame, now: float) -> None:
        """Put one sealed frame on the wire; never blocks, never raises.

        Anything that is not a genuine :class:`SealedFrame` is a ``TypeError``: that is a
        programming error, not a network condition.
        """
        ...

    def last_heard(self) -> float | None:
        """Loop time of the last packet that proves the far end alive; None before the first."""
        ...

    def heard_position(self) -> int | None:
        """Samples of sent audio the far end confirms as played, or None if it can't tell.

        Only Twilio can (its ``mark`` events); elsewhere the playout cursor is the best estimate.
        """
        ...

    def clear(self) -> None:
        """Drop audio buffered beyond this process (Twilio ``clear``); elsewhere nothing."""
        ...

    def close(self) -> None:
        """Release sockets and buffers; idempotent."""
        ...


@runtime_checkable
class Call(Protocol):
    """An answered call, whatever carried it."""

    @property
    def id(self) -> str:
        """Unique for the process's lifetime, safe to log."""
        ...

    @property
    def transport(self) -> str:
        """``sip``, ``webrtc`` or ``twilio``."""
        ...

    @property
    def direction(self) -> Direction:
        """Who placed it."""
        ...

    @property
    def remote(self) -> str:
        """The far party as signalled (URI or number). Never log it whole."""
        ...

    @property
    def local(self) -> str:
        """What was dialled (URI or number)."""
        ...

    @property
    def leg(self) -> MediaLeg:
        """The audio."""
        ...

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """End it from our side; idempotent; returns once the far end knows or a timer gave up."""
        ...

    async def ended(self) -> EndReason:
        """Wait until the call is over, for whichever reason; safe to await many times."""
        ...


class Licence(Protocol):
    """Leave for a cloned voice to be heard in one call; asked again for every frame."""

    @property
    def voice(self) -> str:
        """Id of the voice it was given for."""
        ...

    @property
    def consent(self) -> str:
        """Serial of the consent it rests on."""
        ...

    def holds(self, now: float) -> bool:
        """Whether it holds at ``now``; cheap, never raises, and whatever is uncertain is a no."""
        ...


class LicensedVoice(Protocol):
    """A cloned voice for one call: what makes its speech, and the news that it may not go on."""

    @property
    def speaks_markup(self) -> bool:
        """Whether phrases may hold speech markup."""
        ...

    def open(self, rate: int) -> SynthesisStream:
        """Start an utterance at ``rate`` Hz, every chunk of it under a :class:`Licence`.

        Raises :class:`~ringtrue.streaming.errors.SynthesisError` once the voice may not speak.
        """
        ...

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` once with the reason, on the loop, when the voice may not speak."""
        ...


@dataclass(frozen=True, slots=True)
class WordMark:
    """Where one spoken word ends in the audio of its phrase."""

    text: str
    """The word as the LLM wrote it (not its normalised spelling), without trailing space."""

    end: int
    """Samples from the start of the *utterance* to the end of the word, at the chunk's rate."""


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of synthesized speech."""

    pcm: bytes
    """PCM at the rate asked of :meth:`SynthesisEngine.open`; any whole number of samples."""

    words: tuple[WordMark, ...] = ()
    """Words whose last sample lies in this chunk."""

    phrase_end: bool = False
    """True on the last chunk of the phrase that was fed."""

    licence: Licence | None = None
    """What a cloned voice speaks by; None for a stock voice, which needs none."""


class SynthesisStream(Protocol):
    """One utterance being spoken. Phrases go in as text, PCM comes out, in order."""

    def feed(self, phrase: str) -> None:
        """Queue one phrase; the engine normalises it. Never blocks.

        Plain text, or, where the engine's ``speaks_markup`` is true, text that may hold
        the markup of :mod:`ringtrue.config.speech_markup`, whole by itself.

        Raises :class:`~ringtrue.streaming.errors.SynthesisError` only from :meth:`frames`.
        """
        ...

    def finish(self) -> None:
        """No more phrases: :meth:`frames` ends once everything fed has been spoken."""
        ...

    def frames(self) -> AsyncIterator[SpeechChunk]:
        """Chunks as they are made; the first as soon as the first phrase allows."""
        ...

    def cut(self) -> None:
        """Stop now: queued text and audio are dropped and :meth:`frames` ends. Idempotent."""
        ...


class SynthesisEngine(Protocol):
    """Text to speech, off the event loop, for many calls at once."""

    @property
    def name(self) -> str:
        """Engine and version, as the audit log shows it."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names :meth:`open` accepts."""
        ...

    @property
    def speaks_markup(self) -> bool:
        """Whether phrases may hold speech markup; where not, they are fed without."""
        ...

    async def warm(self) -> None:
        """Load and compile everything, so that the first call pays nothing. Idempotent."""
        ...

    def open(self, voice: str, rate: int) -> SynthesisStream:
        """Start an utterance in ``voice`` at ``rate`` Hz (8000 or 16000).

        Raises :class:`~ringtrue.streaming.errors.UnknownVoiceError` naming the choices.
        """
        ...

    async def close(self) -> None:
        """Release threads and libraries."""
        ...
