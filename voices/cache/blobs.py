"""The store's blobs, read through the cache: what calls use to get a voice ready."""

from __future__ import annotations

from ringtrue.voices.cache.cache import VoiceCache
from ringtrue.voices.keys.sealing import SealContext, Sealed
from ringtrue.voices.store.errors import BlobNotFoundError
from ringtrue.voices.store.profile import Blob
from ringtrue.voices.store.vault import KeyVault
from ringtrue.voices.store.voices import VoiceStore


class CachedBlobs:
    """Reads as :class:`VoiceStore` does, without fetching the same ciphertext again and again.

    The voice's row and its data key still come from the databases each time, so a voice that was
    erased, moved or rewritten is never read from a cache.
    """

    def __init__(self, voices: VoiceStore, vault: KeyVault, cache: VoiceCache) -> None:
        """``voices`` and ``vault`` are of one store."""
        self._voices = voices
        self._vault = vault
        self._cache = cache

    async def get_blob(self, tenant: str, voice: str, kind: str) -> Blob:
        """Read and decrypt one blob; raises as :meth:`VoiceStore.get_blob` does."""
        version = await self._voices.blob_version(tenant, voice, kind)
        # After the row: of an erasure meanwhile, the key is gone by now.
        key = await self._vault.get(tenant, voice)

        async def load() -> Sealed:
            return await self._voices.get_sealed(tenant, voice, kind, version)

        place = SealContext(tenant, voice, str(kind), version)
        try:
            return Blob(str(kind), version, await self._cache.get(place, key, load))
        except BlobNotFoundError:
            # It was written anew since its version was read; the store has the newest.
            return await self._voices.get_blob(tenant, voice, kind)

    async def data(self, tenant: str, voice: str, kind: str) -> bytes:
        """What is in a blob; empty where the voice has none of that kind. Raises as above."""
        try:
            return (await self.get_blob(tenant, voice, kind)).data
        except BlobNotFoundError:
            return b""
