"""Making sealed frames, and the wire's check that what it is given is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.provenance import DigitEvent, FrameKind
from ringtrue.streaming.refusals import Refusal, RefusalLog
from ringtrue.streaming.sealed import FIELDS, SEAL, SealedFrame

_make: Final[Callable[[type[SealedFrame], tuple[object, ...]], SealedFrame]] = tuple.__new__


def seal_frame(
    pcm: bytes,
    rate: int,
    call_id: str,
    seq: int,
    kind: FrameKind,
    talkspurt: bool,
    digit: DigitEvent | None,
    refusals: RefusalLog,
) -> SealedFrame:
    """Make one; for :class:`~ringtrue.streaming.gate.Gate` alone."""
    fields = (pcm, rate, call_id, seq, kind, talkspurt, digit, refusals, SEAL)
    return _make(SealedFrame, fields)


class SealGuard:
    """The wire's side of the gate: lets in genuine frames of one call, each once, in order.

    Every :class:`~ringtrue.streaming.ports.MediaLeg` owns one and calls it first in ``send``.
    The first frame binds the guard to its call, whose log is told from then on what else was
    offered.
    """

    __slots__ = ("_call_id", "_last_seq", "_refusals")

    def __init__(self) -> None:
        """Start unbound."""
        self._call_id: str | None = None
        self._last_seq = -1
        self._refusals: RefusalLog | None = None

    def check(self, frame: object) -> SealedFrame:
        """Return ``frame`` if it may be sent.

        Raises ``TypeError`` if it isn't a sealed frame, :class:`GateError` if it belongs to
        another call or was already sent.
        """
        if type(frame) is not SealedFrame or len(frame) != FIELDS or frame[-1] is not SEAL:
            self._refuse(Refusal.UNSEALED)
            raise TypeError(f"a wire takes SealedFrame only, not {type(frame).__name__}")
        if self._call_id is None:
            self._call_id = frame.call_id
            self._refusals = frame._refusals
        elif frame.call_id != self._call_id:
            self._refuse(Refusal.SESSION)
            raise GateError("sealed frame belongs to another call")
        if frame.seq <= self._last_seq:
            self._refuse(Refusal.SEQUENCE)
            raise GateError("sealed frame was sent before")
        self._last_seq = frame.seq
        return frame

    def _refuse(self, reason: Refusal) -> None:
        if self._refusals is not None:
            self._refusals.at_wire(reason)
