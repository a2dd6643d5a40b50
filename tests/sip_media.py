"""A media session without sockets: it checks the order in which SIP uses it."""

from __future__ import annotations

from legs import ScriptedLeg

from ringtrue.telephony.sip.media import MediaError

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
OFFER += b"m=audio 40000 RTP/AVP 0\r\n"
ANSWER = OFFER.replace(b"40000", b"40002")
UNACCEPTABLE = b"v=0 nothing in common"


class ScriptedMedia:
    """Implements ``MediaSession``."""

    def __init__(self) -> None:
        self.leg = ScriptedLeg()
        self.log: list[tuple[str, bytes]] = []
        self.closed = False
        self.refuses = False
        """No later offer is accepted."""

    async def offer(self, *, hold: bool | None = None) -> bytes:
        kind = {None: "offer", True: "hold", False: "resume"}[hold]
        self.log.append((kind, OFFER))
        return OFFER

    async def preview(self, answer: bytes) -> None:
        self._take("preview", answer)

    async def answer(self, offer: bytes) -> bytes:
        return self._take("answer", offer)

    async def set_answer(self, answer: bytes) -> None:
        self._take("set_answer", answer)

    async def update(self, offer: bytes) -> bytes:
        if self.refuses:
            raise MediaError("no change is wanted")
        return self._take("update", offer)

    def tell(self, key: str) -> None:
        self.log.append(("key", key.encode()))

    def close(self) -> None:
        self.closed = True
        self.leg.close()

    def _take(self, what: str, sdp: bytes) -> bytes:
        if sdp == UNACCEPTABLE:
            raise MediaError("no common codec")
        self.log.append((what, sdp))
        return ANSWER


class MediaShelf:
    """Makes sessions and remembers them."""

    def __init__(self) -> None:
        self.made: list[ScriptedMedia] = []

    def __call__(self) -> ScriptedMedia:
        self.made.append(ScriptedMedia())
        return self.made[-1]

    @property
    def all_closed(self) -> bool:
        return all(media.closed for media in self.made)
