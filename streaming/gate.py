"""The outbound gate: the only maker of :class:`SealedFrame`, the only thing a wire accepts.

Every 20 ms of every call passes here: speech, silence, tones and digits alike. A frame that
cannot be checked, marked and recorded is replaced by marked comfort noise and counted; the clock
never waits for it. Nothing here does I/O or reads a clock: ``now`` comes from the caller.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ringtrue.streaming.drafts import Draft, Piece, Ticket, samples
from ringtrue.streaming.dsp import mixed
from ringtrue.streaming.ports import Licence, frame_bytes
from ringtrue.streaming.provenance import Chunk, DigitEvent, FrameKind, Lane, Provenance
from ringtrue.streaming.refusals import OnRefusal, Refusal, RefusalLog
from ringtrue.streaming.sealed import SealedFrame
from ringtrue.streaming.seals import SealGuard, seal_frame

MAX_RESTS: Final = 64
"""Times on hold, and pauses, that are remembered; audio that waited through more is too old."""


RELAY_MAX_AGE: Final = 0.5
"""Seconds that relayed audio may be old: it is live or it is not sent."""

RELAY_DIGEST_SECONDS: Final = 60
"""Relayed audio is digested in stretches of this length."""


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


class VoiceWatch(Protocol):
    """Listens to a cloned voice as it goes out, and says when it is no longer itself."""

    def vouches(self, licence: Licence) -> bool:
        """Whether ``licence``'s voice may be taken for the person's; cheap, asked every frame."""
        ...

    def heard(self, pcm: bytes, licence: Licence) -> None:
        """20 ms of the voice were sent; never waits."""
        ...

    def close(self) -> None:
        """The call is over."""
        ...


# Members of an enumeration are looked up by name each time; these are not.
_SILENCE: Final = FrameKind.SILENCE
_SPEECH: Final = FrameKind.SPEECH
_RELAY: Final = FrameKind.RELAY
_DIGIT: Final = FrameKind.DIGIT


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Limits the gate enforces, in seconds."""

    far_end_timeout: float = 10.0
    """Silence on the wire from the far end after which the agent stops speaking."""

    far_end_grace: float = 10.0
    """The same, before anything at all was heard (a phone may send nothing until spoken to)."""

    max_age: float = 120.0
    """How long audio may wait between being made and being sent."""


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

    relayed: str | None = None
    """Ids of the calls whose far ends were heard in it, separated by commas."""

    made_here: bool = True
    """False where it is relayed audio and nothing else."""


@dataclass(slots=True)
class GateStats:
    """Counters since the call began."""

    sealed: int = 0
    speech: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)
    """Frames by why they were not sent, those offered to the leg past the gate included."""


class Gate:
    """One call's gate."""

    __slots__ = (
        "_again", "_bytes", "_call_id", "_chain", "_current", "_hash", "_hashed_first",
        "_hashed_samples", "_last_heard", "_on_digest", "_opened_at", "_policy", "_rate",
        "_refusals", "_relayed", "_relaying", "_rests", "_seq", "_silence", "_spoke", "_taken",
        "_ticket", "_up", "_utterances", "_was_speech", "_watch", "_watermarker", "provenance",
        "stats",
    )  # fmt: skip

    def __init__(
        self,
        call_id: str,
        rate: int,
        *,
        opened_at: float,
        last_heard: Callable[[], float | None],
        policy: GatePolicy | None = None,
        watermarker: Watermarker | None = None,
        watch: VoiceWatch | None = None,
        on_digest: Callable[[UtteranceDigest], None] | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        """Open the gate of ``call_id`` for PCM at ``rate`` Hz.

        ``last_heard`` gives the loop time of the last proof of life from the far end.
        ``watch`` listens to the call's cloned voice. ``on_digest`` receives one digest per
        utterance when it closes, ``on_refusal`` what is to be recorded of refusals.
        """
        self.provenance = Provenance(call_id, rate)
        """Gives what makes sound for this call its seal."""

        self._call_id = call_id
        self._rate = rate
        self._bytes = frame_bytes(rate)
        self._silence = bytes(self._bytes)
        self._opened_at = opened_at
        self._last_heard = last_heard
        self._policy = policy or GatePolicy()
        self._watermarker: Watermarker = watermarker or Unmarked()
        self._watch = watch
        self._on_digest = on_digest
        self._up = True
        self._seq = 0
        self._utterances = 0
        self._ticket: Ticket | None = None
        self._current: list[Chunk | None] = [None] * len(Lane)
        """In each lane, the chunk that was checked and is being taken from."""

        self._taken = [0] * len(Lane)
        """How many bytes of it were offered."""

        self._again: deque[tuple[Chunk, int]] = deque()
        """Chunks that may be offered once more, each from this byte on."""

        self._rests: deque[tuple[float, float]] = deque(maxlen=MAX_RESTS)
        self._was_speech = False
        self._hash = hashlib.sha256()
        self._hashed_samples = 0
        self._hashed_first = 0
        self._spoke: tuple[str, str] | None = None
        self._relaying = False
        """The open utterance is relayed audio and nothing else."""

        self._relayed: str | None = None
        self._chain = hashlib.sha256(call_id.encode()).digest()
        self._refusals = RefusalLog(on_refusal)
        self.stats = GateStats(refused=self._refusals.counts)

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
        self._ticket = Ticket(self._call_id, self._utterances)
        return self._ticket

    def cut(self) -> None:
        """The turn is over before its end: nothing made for it passes any more."""
        self.provenance.cut()
        self._current = [None] * len(Lane)
        self._again.clear()
        self.end_utterance()

    def give_back(self, pieces: Sequence[Piece]) -> None:
        """The far end dropped ``pieces``, the last that passed, unheard: they may be offered again.

        In this order, each sample once, and only until something else passes in their lane. They
        are checked and marked anew, and the utterance's digest has them twice, as they were sent.
        """
        self._again.clear()
        for chunk, start, _ in pieces:
            self._current[chunk.lane] = None
            self._again.append((chunk, start))

    def end_utterance(self) -> None:
        """Close the open utterance, finished or cut, and hand its digest to the log."""
        if self._ticket is None:
            return
        utterance, self._ticket = self._ticket.utterance, None
        relaying, self._relaying = self._relaying, False
        relayed, self._relayed = self._relayed, None
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
            watermark=Unmarked.id if relaying else self._watermarker.id,
            voice=voice,
            consent=consent,
            relayed=relayed,
            made_here=not relaying,
        )
        self._hash = hashlib.sha256()
        self._hashed_samples = 0
        if self._on_digest is not None:
            self._on_digest(closed)

    def rest(self, now: float, *, ends: bool = True) -> None:
        """The call is held from ``now`` on: what waits meanwhile doesn't age, and goes on later.

        ``ends``: so does the open utterance; not where it only pauses.
        """
        if ends:
            self.end_utterance()
        self._rests.append((now, float("inf")))

    def wake(self, now: float, *, ends: bool = True) -> None:
        """The call is held no more; ``ends`` as in :meth:`rest`."""
        if ends:
            self.end_utterance()
        if self._rests and self._rests[-1][1] == float("inf"):
            self._rests[-1] = (self._rests[-1][0], now)

    def close(self) -> None:
        """The call is over: end the utterance and refuse everything but silence from now on."""
        self.end_utterance()
        self._up = False
        self._refusals.close()
        if self._watch is not None:
            self._watch.close()

    def admit(self, draft: Draft, now: float, relayed: Chunk | None = None) -> SealedFrame:
        """Check, mark, record and seal one draft; on any failure seal comfort noise instead.

        ``relayed`` is what people in other calls say, to be heard with it. It is checked by
        itself, added after the mark, and bears none: where the draft is silence, what is sent is
        their audio alone.
        """
        self._refusals.tick(now)
        heard = None if relayed is None else self._hear(relayed, now)
        pieces = draft.pieces  # what is checked is what is sent, whatever becomes of the draft
        refusal = self._check(draft.ticket, pieces, now)
        kind, digit, licence = _SILENCE, None, None
        host = self._silence
        if refusal is None and pieces:
            first = pieces[0].chunk
            kind, digit, licence = first.kind, first.digit, first.licence
            host = samples(pieces, self._bytes)
        pcm = self._marked(host, kind)
        if pcm is None:
            refusal = refusal or Refusal.WATERMARK
            pcm, kind, digit, licence = self._silence, _SILENCE, None, None
        if refusal is not None:
            self._refusals.note(refusal, now)
        elif licence is not None:
            self._spoke = licence.voice, licence.consent
            if self._watch is not None:
                self._watch.heard(pcm, licence)
        if heard is not None:
            if kind is _SILENCE:
                pcm, kind = heard, _RELAY
            else:
                pcm = mixed(pcm, heard)
        return self._record(pcm, kind, digit)

    def _hear(self, relayed: Chunk, now: float) -> bytes | None:
        """What is relayed, where it may be sent; None where not."""
        try:
            refusal = self._check_relayed(relayed, now)
        except Exception:  # fail closed whatever a forged chunk raises
            refusal = Refusal.UNSEALED
        if refusal is not None:
            self._refusals.note(refusal, now)
            return None
        long = self._relaying and self._hashed_samples >= RELAY_DIGEST_SECONDS * self._rate
        if self._ticket is None or long:
            self.open_utterance()
            self._relaying = True
        self._relayed = relayed.origin.call if relayed.origin is not None else None
        return relayed.pcm

    def _check_relayed(self, chunk: Chunk, now: float) -> Refusal | None:
        if not self._up:
            return Refusal.CALL_DOWN
        refusal = self.provenance.refusal(chunk)
        if refusal is not None:
            return refusal
        origin = chunk.origin
        if chunk.kind is not _RELAY or chunk.lane is not Lane.RELAY or origin is None:
            return Refusal.FORMAT
        if len(chunk.pcm) != self._bytes or chunk.rate != self._rate:
            return Refusal.FORMAT
        if now - chunk.made_at > RELAY_MAX_AGE:
            return Refusal.EXPIRED
        if origin.live(now) is not True:
            return Refusal.ORIGIN
        return None if self.far_end(now) else Refusal.FAR_END

    def far_end(self, now: float) -> bool:
        """Whether the far end was heard lately enough to be spoken to."""
        heard = self._last_heard()
        if heard is None:
            return now - self._opened_at <= self._policy.far_end_grace
        return now - heard <= self._policy.far_end_timeout

    def _marked(self, pcm: bytes, kind: FrameKind) -> bytes | None:
        try:
            marked = self._watermarker.mark(pcm, kind)
        except Exception:  # fail closed whatever the marker raises
            return None
        return marked if type(marked) is bytes and len(marked) == self._bytes else None

    def _check(
        self, ticket: Ticket | None, pieces: tuple[Piece, ...], now: float
    ) -> Refusal | None:
        if not pieces:
            return None if ticket is None else Refusal.FORMAT
        if not self._up:
            return Refusal.CALL_DOWN
        try:
            refusal = self._check_origin(ticket, pieces)
        except Exception:  # fail closed whatever a forged draft raises
            refusal = Refusal.UNSEALED
        return refusal or self._check_moment(pieces[0].chunk, now)

    def _check_moment(self, chunk: Chunk, now: float) -> Refusal | None:
        """Whether it may be heard now."""
        if now - chunk.made_at > self._policy.max_age and self._too_old(chunk, now):
            return Refusal.EXPIRED
        if chunk.licence is not None:
            if self._watch is not None and not self._watch.vouches(chunk.licence):
                return Refusal.LIKENESS
            if not licence_holds(chunk.licence, now):
                return Refusal.CONSENT
        return None if self.far_end(now) else Refusal.FAR_END

    def _too_old(self, chunk: Chunk, now: float) -> bool:
        """Whether it is too old even without the time on hold."""
        rested = sum(
            max(0.0, min(until, now) - max(since, chunk.made_at)) for since, until in self._rests
        )
        return now - chunk.made_at - rested > self._policy.max_age

    def _check_origin(self, ticket: Ticket | None, pieces: tuple[Piece, ...]) -> Refusal | None:
        """Whether every sample was made for this call and turn, and none was sent before."""
        size, first = 0, pieces[0].chunk
        for chunk, start, stop in pieces:
            lane = chunk.lane
            if chunk is not self._current[lane]:
                again = bool(self._again) and chunk is self._again[0][0]
                refusal = self.provenance.refusal(chunk, again=again)
                if refusal is not None:
                    return refusal
                self._current[lane] = chunk
                self._taken[lane] = self._again.popleft()[1] if again else 0
                if not again and lane is Lane.SPEECH:
                    self._again.clear()
            if start < self._taken[lane]:
                return Refusal.SEQUENCE
            if not start < stop <= len(chunk.pcm) or (stop - start) % 2:
                return Refusal.FORMAT
            self._taken[lane] = stop
            size += stop - start
            if chunk.kind is not first.kind or chunk.licence is not first.licence:
                return Refusal.FORMAT
        if ticket is None or (ticket is not self._ticket and ticket != self._ticket):
            other = ticket is not None and ticket.session != self._call_id
            return Refusal.SESSION if other else Refusal.STALE_TURN
        if size > self._bytes or first.rate != self._rate:
            return Refusal.FORMAT
        if first.kind in (_SILENCE, _RELAY) or (first.kind is _DIGIT) is (first.digit is None):
            return Refusal.FORMAT
        return None

    def _record(self, pcm: bytes, kind: FrameKind, digit: DigitEvent | None) -> SealedFrame:
        seq, self._seq = self._seq, self._seq + 1
        if self._ticket is not None:
            if not self._hashed_samples:
                self._hashed_first = seq
            self._hash.update(pcm)
            self._hashed_samples += len(pcm) // 2
        audible = kind is not _SILENCE
        talkspurt, self._was_speech = audible and not self._was_speech, audible
        self.stats.sealed += 1
        if kind is _SPEECH:
            self.stats.speech += 1
        return seal_frame(
            pcm, self._rate, self._call_id, seq, kind, talkspurt, digit, self._refusals
        )


def licence_holds(licence: Licence, now: float) -> bool:
    """Whether ``licence`` lets its voice be heard at ``now``; one that raises doesn't."""
    try:
        return licence.holds(now) is True
    except Exception:  # fail closed whatever a licence raises
        return False


__all__ = [
    "Chunk",
    "DigitEvent",
    "Draft",
    "FrameKind",
    "Gate",
    "GatePolicy",
    "GateStats",
    "Piece",
    "Refusal",
    "SealGuard",
    "SealedFrame",
    "Ticket",
    "Unmarked",
    "UtteranceDigest",
    "VoiceWatch",
    "Watermarker",
    "licence_holds",
]
