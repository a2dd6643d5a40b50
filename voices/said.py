"""What a voice has said before, kept to be said again.

An agent greets every caller with the same words. What was rendered is kept by all that was said
before it in its utterance, as sound runs on from phrase to phrase, so what is given back is, to
the sample, what would be rendered anew. It is PCM without a seal and without a licence: who says
it again gives it those of its own call.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ringtrue.streaming.ports import SpeechChunk

MAX_BYTES: Final = 4 << 20
"""PCM kept of one voice, four minutes at 8 kHz; what was not said for longest goes first."""

MAX_SEEN: Final = 1024
"""Phrases remembered, by their digests, to have been asked for."""

_DIGEST: Final = 16


class History:
    """What was said in an utterance so far, as a digest: the words themselves are not kept."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        """Use :meth:`of`."""
        self.digest = digest

    @classmethod
    def of(cls, rate: int) -> History:
        """Nothing yet, at ``rate`` Hz."""
        return cls(rate.to_bytes(4, "big"))

    def then(self, phrase: str) -> History:
        """And ``phrase``."""
        return self._then(b"phrase", phrase.encode(errors="surrogatepass"))

    def end(self) -> History:
        """And nothing more."""
        return self._then(b"end", b"")

    def _then(self, kind: bytes, data: bytes) -> History:
        key = self.digest
        return History(hashlib.blake2b(data, key=key, person=kind, digest_size=_DIGEST).digest())


class Said:
    """What one voice has said. For one event loop.

    Only what is asked for twice is to be kept: most of what is said once is never said again.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Keep at most ``max_bytes`` of PCM."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, tuple[SpeechChunk, ...]] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of PCM kept."""
        return self._bytes

    def recall(self, history: History) -> tuple[SpeechChunk, ...] | None:
        """The chunks of the phrase that ``history`` ends with; None where they aren't kept."""
        chunks = self._kept.get(history.digest)
        if chunks is not None:
            self._kept.move_to_end(history.digest)
        return chunks

    def asked(self, history: History) -> bool:
        """What ``history`` ends with is about to be rendered: whether it was so before, and will be
        worth keeping."""
        key = history.digest
        if key in self._seen:
            self._seen.move_to_end(key)
            return True
        self._seen[key] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return False

    def keep(self, history: History, chunks: Sequence[SpeechChunk]) -> None:
        """``chunks``, without licence, are what ``history`` ends with; all of it.

        Of what takes more than a quarter of the room nothing is kept.
        """
        key, size = history.digest, _size(chunks)
        if key in self._kept or size > self._max_bytes // 4:
            return
        self._kept[key] = tuple(chunks)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)

    def forget(self) -> None:
        """Keep nothing of what was said until now."""
        self._kept.clear()
        self._seen.clear()
        self._bytes = 0


def _size(chunks: Sequence[SpeechChunk]) -> int:
    return sum(len(chunk.pcm) for chunk in chunks)
