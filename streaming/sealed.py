"""A frame that may be sent, and the wire's check that it is one."""

from __future__ import annotations

from typing import Any, Final, NoReturn, final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.provenance import DigitEvent, FrameKind
from ringtrue.streaming.refusals import Refusal, RefusalLog

_SEAL: Final = object()


@final
class SealedFrame:
    """20 ms of PCM that was checked, marked and recorded. Only :class:`Gate` makes one.

    Immutable; can't be subclassed, copied or pickled.
    """

    __slots__ = (
        "_refusals",
        "_seal",
        "call_id",
        "digit",
        "kind",
        "pcm",
        "rate",
        "seq",
        "talkspurt",
    )

    pcm: bytes
    rate: int
    call_id: str
    seq: int
    kind: FrameKind
    talkspurt: bool
    digit: DigitEvent | None
    _seal: object
    _refusals: RefusalLog

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
    frame = object.__new__(SealedFrame)
    put = object.__setattr__
    put(frame, "pcm", pcm)
    put(frame, "rate", rate)
    put(frame, "call_id", call_id)
    put(frame, "seq", seq)
    put(frame, "kind", kind)
    put(frame, "talkspurt", talkspurt)
    put(frame, "digit", digit)
    put(frame, "_refusals", refusals)
    put(frame, "_seal", _SEAL)
    return frame


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
        if type(frame) is not SealedFrame or getattr(frame, "_seal", None) is not _SEAL:
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
