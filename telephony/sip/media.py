"""What SIP asks of a call's media: offers, answers, and the leg they lead to.

SIP carries session descriptions and never reads them; whoever implements
:class:`MediaSession` owns SDP, codecs and RTP sockets (RFC 3264 offer/answer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import MediaLeg


class MediaError(RingtrueError):
    """A description that can't be accepted; :attr:`status` is the SIP answer it deserves.

    488 where nothing offered is supported (RFC 3261 §21.4.26), 400 where it can't be read,
    503 where there is no port left for it.
    """

    def __init__(self, reason: str, *, status: int = 488) -> None:
        """``reason`` is short printable ASCII: it goes into the response's Warning header."""
        super().__init__(reason)
        self.status = status


@runtime_checkable
class MediaSession(Protocol):
    """One call's media. Exactly one of :meth:`offer` and :meth:`answer` is called first.

    Every method that reads a description raises :class:`MediaError` on one it can't accept and
    then leaves the session as it was.
    """

    @property
    def leg(self) -> MediaLeg:
        """The audio; usable once the first offer/answer exchange is complete."""
        ...

    async def offer(self, *, hold: bool | None = None) -> bytes:
        """Our description, as an offer (also to a re-INVITE without one).

        ``hold``: put the far end on hold, or take it off (RFC 3264 §8.4); None: as it is.
        """
        ...

    async def preview(self, answer: bytes) -> None:
        """Take what a provisional response answers to our :meth:`offer`: the leg may be heard.

        Nothing is sent before :meth:`set_answer`; another fork's answer may follow.
        """
        ...

    async def answer(self, offer: bytes) -> bytes:
        """Take the far end's first offer and give our answer; the leg is then ready."""
        ...

    async def set_answer(self, answer: bytes) -> None:
        """Take the far end's answer to the last :meth:`offer`; the leg is then ready."""
        ...

    async def update(self, offer: bytes) -> bytes:
        """Take a later offer (re-INVITE: hold, new address, new codec) and give our answer."""
        ...

    def tell(self, key: str) -> None:
        """The far end's signalling told of a key, one of ``0-9*#A-D``; the leg is to hear it."""
        ...

    def close(self) -> None:
        """Release sockets and ports; idempotent."""
        ...


MediaFactory = Callable[[], MediaSession]
"""Makes a fresh session for one call."""
