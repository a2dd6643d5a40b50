"""Where audio comes from: sealed by what made it, for one call and one turn of it.

Whatever makes sound for a call (its synthesizer, its tone generator) holds a :class:`Sealer` and
gives every piece of PCM a tag, keyed BLAKE2b (RFC 7693 §2.9) over the samples, their place in the
utterance, when they were made and whose voice they are in. The key is random, of the call alone
and in no other hands. The gate checks the tag of each :class:`Chunk` once, before the first of
its samples goes out, and then takes the samples from the chunk itself, each once and in order. So
audio of another call, of a turn that was cut, from a forgotten queue, or offered twice is refused
whatever brought it there, and a cloned voice can't lose its licence on the way.

This guards against faults and against code that is given audio but not the sealer. It is no
defence against whoever can read this process's memory.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol

from ringtrue.streaming.ports import Licence
from ringtrue.streaming.refusals import Refusal

TAG_BYTES: Final = 16
KEY_BYTES: Final = 32

_HEADER: Final = struct.Struct(">BBIQQdH")
"""Lane, kind, rate, utterance, number in it, moment, bytes of the voice's id and the origin."""

_DIGIT: Final = struct.Struct(">cI??")


class FrameKind(StrEnum):
    """What a frame carries."""

    SPEECH = "speech"
    SILENCE = "silence"
    TONE = "tone"
    DIGIT = "digit"
    RELAY = "relay"
    """What people at the far ends of other calls say, and nothing that was made here."""


_KINDS: Final = {kind: number for number, kind in enumerate(FrameKind)}


class DigitEvent(NamedTuple):
    """A 20 ms step of an outgoing DTMF digit (RFC 4733 §2.5)."""

    digit: str
    """One of ``0-9*#A-D``."""

    elapsed: int
    """Samples since the digit began, this frame included."""

    first: bool
    last: bool


class Lane(IntEnum):
    """What makes sound for a call by itself; each lane has an order of its own."""

    SPEECH = 0
    TONES = 1
    HOLD = 2
    """What is heard on hold, while everything else rests."""

    RELAY = 3
    """What is passed on from other calls; beside everything else, never in its place."""


class Origin(Protocol):
    """Who is heard in relayed audio: the far ends of other calls."""

    @property
    def call(self) -> str:
        """Ids of those calls, separated by commas."""
        ...

    def live(self, now: float) -> bool:
        """Whether all of those calls are up and their far ends there; cheap, never raises."""
        ...


class Chunk(NamedTuple):
    """A piece of PCM and the proof of where it was made. Changing anything breaks the tag."""

    session: str
    """Id of the call it was made for."""

    lane: Lane
    utterance: int
    """Number of the utterance in its lane; strictly increasing in the order they are spoken."""

    seq: int
    """Number of the chunk in its utterance, from 0."""

    made_at: float
    """Loop time in seconds."""

    rate: int
    """Hz."""

    kind: FrameKind
    pcm: bytes
    """16-bit little-endian mono, any whole number of samples."""

    digit: DigitEvent | None = None
    licence: Licence | None = None
    """What a cloned voice speaks by; None for everything else."""

    tag: bytes = b""
    """Empty: nobody vouches for it."""

    origin: Origin | None = None
    """Who said it, where it is relayed; None for everything made here."""


class Sealer:
    """Vouches for the audio of one utterance; made by :meth:`Provenance.utterance`."""

    __slots__ = ("_lane", "_number", "_provenance", "_seq")

    def __init__(self, provenance: Provenance, lane: Lane, number: int) -> None:
        """Use :meth:`Provenance.utterance`."""
        self._provenance = provenance
        self._lane = lane
        self._number = number
        self._seq = 0

    def seal(
        self,
        pcm: bytes,
        now: float,
        *,
        kind: FrameKind = FrameKind.SPEECH,
        digit: DigitEvent | None = None,
        licence: Licence | None = None,
    ) -> Chunk:
        """``pcm``, the utterance's next, made at ``now`` at the call's rate.

        Raises ``ValueError`` for half a sample, and for what was not made here
        (:class:`RelaySealer` vouches for that).
        """
        if kind is FrameKind.RELAY:
            raise ValueError("what is made here can't be sealed as relayed audio")
        return self._seal(pcm, now, kind, digit, licence, None)

    def _seal(
        self,
        pcm: bytes,
        now: float,
        kind: FrameKind,
        digit: DigitEvent | None,
        licence: Licence | None,
        origin: Origin | None,
    ) -> Chunk:
        if len(pcm) % 2:
            raise ValueError(f"PCM must be whole 16-bit samples, got {len(pcm)} bytes")
        pcm = bytes(pcm)  # what can be changed later can't be vouched for
        chunk = Chunk(
            self._provenance.session,
            self._lane,
            self._number,
            self._seq,
            now,
            self._provenance.rate,
            kind,
            pcm,
            digit,
            licence,
            origin=origin,
        )
        self._seq += 1
        return chunk._replace(tag=self._provenance._tag(chunk))


class RelaySealer:
    """Vouches for what is passed on from other calls; made by :meth:`Provenance.relay`.

    It can seal nothing but relayed audio, and no other sealer can seal that.
    """

    __slots__ = ("_sealer",)

    def __init__(self, sealer: Sealer) -> None:
        """Use :meth:`Provenance.relay`."""
        self._sealer = sealer

    def seal(self, pcm: bytes, now: float, origin: Origin) -> Chunk:
        """``pcm``, which the far ends of ``origin`` were heard to say at ``now``.

        Raises ``ValueError`` for half a sample.
        """
        return self._sealer._seal(pcm, now, FrameKind.RELAY, None, None, origin)


class Provenance:
    """One call's key: makes sealers, and knows what they sealed. Serves one thread."""

    __slots__ = (
        "__keyed",
        "_floor",
        "_issued",
        "_last",
        "_superseded",
        "rate",
        "session",
    )

    def __init__(self, session: str, rate: int) -> None:
        """For the call ``session`` with PCM at ``rate`` Hz."""
        self.session = session
        self.rate = rate
        self.__keyed = hashlib.blake2b(
            key=secrets.token_bytes(KEY_BYTES), digest_size=TAG_BYTES, person=b"ringtrue chunk"
        )
        self._issued = dict.fromkeys(Lane, 0)
        self._superseded = 0
        self._floor = dict.fromkeys(Lane, 0)
        """Utterances up to this number were cut."""

        self._last = dict.fromkeys(Lane, (0, -1))
        """Utterance and number of the newest chunk that passed."""

    def utterance(self, lane: Lane = Lane.SPEECH) -> Sealer:
        """Begin an utterance. Take it when it begins to sound, not when it is asked for.

        Raises ``ValueError`` for :attr:`Lane.RELAY`.
        """
        if lane is Lane.RELAY:
            raise ValueError("relayed audio is no utterance of ours; use Provenance.relay")
        return self._begin(lane)

    def relay(self) -> RelaySealer:
        """Begin to pass on what the far ends of other calls say."""
        return RelaySealer(self._begin(Lane.RELAY))

    def _begin(self, lane: Lane) -> Sealer:
        self._issued[lane] += 1
        return Sealer(self, lane, self._issued[lane])

    def supersede(self) -> None:
        """The maker of speech was interrupted: what it sealed so far is of an earlier turn.

        It takes effect with :meth:`cut`, when the interruption has reached the gate too.
        """
        self._superseded = self._issued[Lane.SPEECH]

    def cut(self) -> None:
        """Playout was emptied: nothing of the turn before passes any more."""
        self._floor[Lane.SPEECH] = max(
            self._floor[Lane.SPEECH], self._superseded, self._last[Lane.SPEECH][0]
        )
        self._floor[Lane.TONES] = self._issued[Lane.TONES]

    def refusal(self, chunk: Chunk, *, again: bool = False) -> Refusal | None:
        """Why ``chunk`` may not begin to be heard; None where it may, and then only once.

        ``again`` is for one that has passed, whose samples the far end dropped unheard. Takes the
        same time wherever a tag is wrong.
        """
        if type(chunk) is not Chunk or type(chunk.pcm) is not bytes or not chunk.tag:
            return Refusal.UNSEALED
        if chunk.session != self.session:
            return Refusal.SESSION
        try:
            genuine = hmac.compare_digest(self._tag(chunk), chunk.tag)
        except Exception:  # fail closed whatever a forged field raises
            genuine = False
        if not genuine:
            return Refusal.UNSEALED
        last = self._last[chunk.lane]
        if again:
            passed = self._floor[chunk.lane] < chunk.utterance
            passed = passed and (chunk.utterance, chunk.seq) <= last
            return None if passed else Refusal.STALE_TURN
        if chunk.utterance <= self._floor[chunk.lane] or chunk.utterance < last[0]:
            return Refusal.STALE_TURN
        if (chunk.utterance, chunk.seq) <= last:
            return Refusal.SEQUENCE
        self._last[chunk.lane] = (chunk.utterance, chunk.seq)
        return None

    def _tag(self, chunk: Chunk) -> bytes:
        licence, origin = chunk.licence, chunk.origin
        voice = b"" if licence is None else licence.voice.encode()
        if origin is not None:
            voice += b"\n" + origin.call.encode()
        state = self.__keyed.copy()
        state.update(
            _HEADER.pack(
                chunk.lane,
                _KINDS[chunk.kind]
                | (0x80 if licence is not None else 0)
                | (0x40 if origin is not None else 0),
                chunk.rate,
                chunk.utterance,
                chunk.seq,
                chunk.made_at,
                len(voice),
            )
            + voice
        )
        if chunk.digit is not None:
            digit = chunk.digit
            state.update(_DIGIT.pack(digit.digit.encode(), digit.elapsed, digit.first, digit.last))
        state.update(chunk.pcm)
        return state.digest()


def unsealed(pcm: bytes, rate: int, now: float) -> Chunk:
    """PCM that nobody vouches for, as something may offer it: no gate lets it out."""
    return Chunk("", Lane.SPEECH, 0, 0, now, rate, FrameKind.SPEECH, pcm)
