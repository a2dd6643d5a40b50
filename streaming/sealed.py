"""A frame that may be sent."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.provenance import DigitEvent, FrameKind
from ringtrue.streaming.refusals import RefusalLog

SEAL: Final = object()
"""Last in every genuine frame; for :mod:`ringtrue.streaming.seals` alone."""


FIELDS: Final = 9
"""The attributes in their order, and the seal."""


@final
class SealedFrame(tuple[object, ...]):
    """20 ms of PCM that was checked, marked and recorded. Only :class:`Gate` makes one.

    Immutable, as it is a tuple; can't be subclassed, copied or pickled.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        pcm: bytes
        rate: int
        call_id: str
        seq: int
        kind: FrameKind
        talkspurt: bool
        digit: DigitEvent | None
        _refusals: RefusalLog
    else:
        pcm, rate, call_id, seq, kind, talkspurt, digit, _refusals = (
            property(itemgetter(place)) for place in range(FIELDS - 1)
        )

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse: frames come from :meth:`Gate.admit`."""
        raise GateError("SealedFrame is made by the gate alone; use Gate.admit")

    def __init_subclass__(cls, **_: object) -> NoReturn:
        raise TypeError("SealedFrame can't be subclassed")

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<SealedFrame {self.seq} of {self.call_id}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("SealedFrame can't be pickled or copied")
