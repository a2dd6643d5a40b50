"""The outbound gate: the only maker of :class:`SealedFrame`, the only thing a wire accepts.

Every 20 ms of every call passes here: speech, silence, tones and digits alike. A frame that
cannot be checked, marked and recorded is replaced by silence and counted; the clock never
waits for it. Nothing here does I/O or reads a clock: ``now`` comes from the caller.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn, Protocol, final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.ports import Licence, frame_bytes

_SEAL: Final = object()


class FrameKind(StrEnum):
    """What a frame carries."""

    SPEECH = "speech"
    SILENCE = "silence"
    TONE = "tone"
    DIGIT = "digit"


class Refusal(StrEnum):
    """Why a draft was not sent. Each is counted; silence went out instead."""

    SESSION = "session"
    """Synthesized for another call."""

    STALE_TURN = "stale_turn"
    """Its utterance was cut or closed, or another one has begun."""

    SEQUENCE = "sequence"
    """Not newer than a frame already sent: a replay or a reorder."""

    EXPIRED = "expired"
    """Queued longer than the policy allows."""

    CALL_DOWN = "call_down"
    """The call is not up."""

    FAR_END = "far_end"
    """Nothing heard from the far end for too long."""

    FORMAT = "format"
    """Not one whole frame of PCM at the leg's rate, or not what its kind says: silence that
    sounds, a digit without its step."""

    CONSENT = "consent"
    """In a cloned voice whose licence doesn't hold at this moment."""

    WATERMARK = "watermark"
    """The watermark stage failed or changed the frame's length."""


@dataclass(frozen=True, slots=True)
class DigitEvent:
    """A 20 ms step of an outgoing DTMF digit (RFC 4733 §2.5)."""

    digit: str
    """One of ``0-9*#A-D``."""

    elapsed: int
    """Samples since the digit began, this frame included."""

    first: bool
    last: bool


@final
class SealedFrame:
    """20 ms of PCM that was checked, marked and recorded. Only :class:`Gate` makes one.

    Immutable; can't be subclassed, copied or pickled.
    """

    __slots__ = ("_seal", "call_id", "digit", "kind", "pcm", "rate", "seq", "talkspurt")

    pcm: bytes
    rate: int
    call_id: str
    seq: int
    kind: FrameKind
    talkspurt: bool
    digit: DigitEvent | None
    _seal: object

    def __init__(self, *_: object, **__: object) -> None:
        """Refuse: frames come from :meth:`Gate.admit`."""
        raise GateError("SealedFrame is made by the gate alone; use Gate.admit")

    def __init_subclass__(cls, **_: object) -> NoReturn:
        raise TypeError("SealedFrame can't be subclassed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SealedFrame is immutable: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"SealedFrame is immutable: {name}")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SealedFrame can't be pickled or copied")


def _seal(
    pcm: bytes,
    rate: int,
    call_id: str,
    seq: int,
    kind: FrameKind,
    talkspurt: bool,
    digit: DigitEvent | None,
) -> SealedFrame:
    frame = object.__new__(SealedFrame)
    put = object.__setattr__
    put(frame, "pcm", pcm)
    put(frame, "rate", rate)
    put(frame, "call_id", call_id)
    put(frame, "seq", seq)
    put(frame, "kind", kind)
    put(frame, "talkspurt", talkspurt)
    put(frame, "digit", digit)
    put(frame, "_seal", _SEAL)
    return frame


class SealGuard:
    """The wire's side of the gate: lets in genuine frames of one call, each once, in order.

    Every :class:`~ringtrue.streaming.ports.MediaLeg` owns one and calls it first in ``send``.
    The first frame binds the guard to its call.
    """

    __slots__ = ("_call_id", "_last_seq")

    def __init__(self) -> None:
        """Start unbound."""
        self._call_id: str | None = None
        self._last_seq = -1

    def check(self, frame: object) -> SealedFrame:
        """Return ``frame`` if it may be sent.

        Raises ``TypeError`` if it isn't a sealed frame, :class:`GateError` if it belongs to
        another call or was already sent.
        """
        if type(frame) is not SealedFrame or getattr(frame, "_seal", None) is not _SEAL:
            raise TypeError(f"a wire takes SealedFrame only, not {type(frame).__name__}")
        if self._call_id is None:
            self._call_id = frame.call_id
        elif frame.call_id != self._call_id:
            raise GateError("sealed frame belongs to another call")
        if frame.seq <= self._last_seq:
            raise GateError("sealed frame was sent before")
        self._last_seq = frame.seq
        return frame


class Watermarker(Protocol):
    """The stage that marks every outbound frame. State per leg; adds no delay."""

    @property
    def id(self) -> str:
        """Which mark, as the audit log shows it."""
        ...

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        """Return ``pcm`` marked: same length, same rate."""
        ...


class Unmarked:
    """The stage before a watermark exists: passes frames through and says so in the record."""

    id: Final = "none"

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        """Return ``pcm`` as it is."""
        return pcm


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to speak one utterance in one call; drafts of any other are refused."""

    session: str
    utterance: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A frame as playout offers it, not yet allowed on a wire."""

    pcm: bytes
    kind: FrameKind
    ticket: Ticket | None
    """None only for silence, which belongs to no utterance."""

    seq: int
    """Playout's running number within the ticket; strictly increasing."""

    queued_at: float
    """When its audio was written to playout."""

    digit: DigitEvent | None = None

    licence: Licence | None = None
    """What a cloned voice speaks by; None for everything else."""


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Limits the gate enforces, in seconds."""

    far_end_timeout: float = 10.0
    """Silence on the wire from the far end after which the agent stops speaking."""

    far_end_grace: float = 10.0
    """The same, before anything at all was heard (a phone may send nothing until spoken to)."""

    max_age: float = 120.0
    """How long audio may wait in playout."""


@dataclass(frozen=True, slots=True)
class UtteranceDigest:
    """What was sent of one utterance, for the audit log."""

    call_id: str
    utterance: int
    first_seq: int
    last_seq: int
    samples: int
    sha256: str
    """SHA-256 over the PCM sent, hex."""

    chain: str
    """SHA-256 over the previous utterance's chain, this digest and, for a cloned voice, its id
    and its consent's serial, hex."""

    watermark: str
    voice: str | None = None
    """Id of the cloned voice that was heard in it."""

    consent: str | None = None
    """Serial of the consent that voice spoke by."""


@dataclass(slots=True)
class GateStats:
    """Counters since the call began."""

    sealed: int = 0
    speech: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)


class Gate:
    """One call's gate."""

    def __init__(
        self,
        call_id: str,
        rate: int,
        *,
        opened_at: float,
        last_heard: Callable[[], float | None],
        policy: GatePolicy | None = None,
        watermarker: Watermarker | None = None,
        on_digest: Callable[[UtteranceDigest], None] | None = None,
    ) -> None:
        """Open the gate of ``call_id`` for PCM at ``rate`` Hz.

        ``last_heard`` gives the loop time of the last proof of life from the far end.
        ``on_digest`` receives one digest per utterance when it closes.
        """
        self._call_id = call_id
        self._rate = rate
        self._bytes = frame_bytes(rate)
        self._silence = bytes(self._bytes)
        self._opened_at = opened_at
        self._last_heard = last_heard
        self._policy = policy or GatePolicy()
        self._watermarker: Watermarker = watermarker or Unmarked()
        self._on_digest = on_digest
        self._up = True
        self._seq = 0
        self._utterances = 0
        self._ticket: Ticket | None = None
        self._draft_seq = -1
        self._was_speech = False
        self._hash = hashlib.sha256()
        self._hashed_samples = 0
        self._hashed_first = 0
        self._spoke: tuple[str, str] | None = None
        self._chain = hashlib.sha256(call_id.encode()).digest()
        self.stats = GateStats()

    @property
    def call_id(self) -> str:
        """The call this gate seals for."""
        return self._call_id

    @property
    def watermark(self) -> str:
        """Which mark everything sent carries."""
        return self._watermarker.id

    @property
    def up(self) -> bool:
        """False once :meth:`close` was called."""
        return self._up

    def open_utterance(self) -> Ticket:
        """Begin an utterance; whatever was open before may no longer speak."""
        self.end_utterance()
        self._utterances += 1
        self._draft_seq = -1
        self._ticket = Ticket(self._call_id, self._utterances)
        return self._ticket

    def end_utterance(self) -> None:
        """Close the open utterance, finished or cut, and hand its digest to the log."""
        if self._ticket is None:
            return
        utterance, self._ticket = self._ticket.utterance, None
        if not self._hashed_samples:
            return
        digest = self._hash.digest()
        (voice, consent), self._spoke = self._spoke or (None, None), None
        by = b"" if voice is None else f"\n{voice}\n{consent}".encode()
        self._chain = hashlib.sha256(self._chain + digest + by).digest()
        closed = UtteranceDigest(
            call_id=self._call_id,
            utterance=utterance,
            first_seq=self._hashed_first,
            last_seq=self._seq - 1,
            samples=self._hashed_samples,
            sha256=digest.hex(),
            chain=self._chain.hex(),
            watermark=self._watermarker.id,
            voice=voice,
            consent=consent,
        )
        self._hash = hashlib.sha256()
        self._hashed_samples = 0
        if self._on_digest is not None:
            self._on_digest(closed)

    def close(self) -> None:
        """The call is over: end the utterance and refuse everything but silence from now on."""
        self.end_utterance()
        self._up = False

    def admit(self, draft: Draft, now: float) -> SealedFrame:
        """Check, mark, record and seal one draft; on any failure seal silence instead."""
        refusal = self._check(draft, now)
        pcm, kind, digit = draft.pcm, draft.kind, draft.digit
        if refusal is None:
            try:
                pcm = self._watermarker.mark(draft.pcm, kind)
            except Exception:  # fail closed whatever the marker raises
                refusal = Refusal.WATERMARK
            else:
                if type(pcm) is not bytes or len(pcm) != self._bytes:
                    refusal = Refusal.WATERMARK
        if refusal is not None:
            self.stats.refused[refusal] += 1
            pcm, kind, digit = self._silence, FrameKind.SILENCE, None
        elif draft.licence is not None:
            self._spoke = draft.licence.voice, draft.licence.consent
        return self._record(pcm, kind, digit)

    def _check(self, draft: Draft, now: float) -> Refusal | None:
        if not self._up:
            return Refusal.CALL_DOWN
        if len(draft.pcm) != self._bytes:
            return Refusal.FORMAT
        if draft.ticket is None:
            is_silence = draft.kind is FrameKind.SILENCE and draft.pcm == self._silence
            return None if is_silence and draft.digit is None else Refusal.STALE_TURN
        if draft.kind is FrameKind.SILENCE and draft.pcm != self._silence:
            return Refusal.FORMAT
        if (draft.kind is FrameKind.DIGIT) is (draft.digit is None):
            return Refusal.FORMAT
        if draft.ticket.session != self._call_id:
            return Refusal.SESSION
        if draft.ticket != self._ticket:
            return Refusal.STALE_TURN
        if draft.seq <= self._draft_seq:
            return Refusal.SEQUENCE
        self._draft_seq = draft.seq
        if now - draft.queued_at > self._policy.max_age:
            return Refusal.EXPIRED
        if draft.licence is not None and not licence_holds(draft.licence, now):
            return Refusal.CONSENT
        heard = self._last_heard()
        if heard is None:
            if now - self._opened_at > self._policy.far_end_grace:
                return Refusal.FAR_END
        elif now - heard > self._policy.far_end_timeout:
            return Refusal.FAR_END
        return None

    def _record(self, pcm: bytes, kind: FrameKind, digit: DigitEvent | None) -> SealedFrame:
        seq, self._seq = self._seq, self._seq + 1
        if self._ticket is not None:
            if not self._hashed_samples:
                self._hashed_first = seq
            self._hash.update(pcm)
            self._hashed_samples += len(pcm) // 2
        audible = kind is not FrameKind.SILENCE
        talkspurt, self._was_speech = audible and not self._was_speech, audible
        self.stats.sealed += 1
        if kind is FrameKind.SPEECH:
            self.stats.speech += 1
        return _seal(pcm, self._rate, self._call_id, seq, kind, talkspurt, digit)


def licence_holds(licence: Licence, now: float) -> bool:
    """Whether ``licence`` lets its voice be heard at ``now``; one that raises doesn't."""
    try:
        return licence.holds(now) is True
    except Exception:  # fail closed whatever a licence raises
        return False
