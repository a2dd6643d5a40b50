"""Fingerprints of recordings that were accepted, by which a replay of them is known.

They are kept with each voice under its data key and erased with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import structlog

from ringtrue.voices.enrolment.errors import EnrolmentError
from ringtrue.voices.store.errors import BlobNotFoundError, VoiceNotFoundError
from ringtrue.voices.store.profile import Lifecycle
from ringtrue.voices.store.voices import MAX_PAGE, VoiceStore

log = structlog.get_logger(__name__)

FINGERPRINTS: Final = "fingerprints"
"""Kind of the blob that keeps a voice's."""

MAX_PER_VOICE: Final = 32
"""Recordings remembered of one voice; of more renewals than that, the newest."""

MAX_EARLIER: Final = 1500
"""Recordings a new one is held against: some 15 s of CPU. Of more, those of the newest voices."""

_LENGTH: Final = struct.Struct("<I")


def packed(fingerprints: Iterable[bytes]) -> bytes:
    """Several fingerprints as one blob."""
    return b"".join(_LENGTH.pack(len(item)) + item for item in fingerprints)


def unpacked(data: bytes) -> tuple[bytes, ...]:
    """What :func:`packed` made. Raises :class:`EnrolmentError` for anything else."""
    found, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise EnrolmentError("a voice's fingerprints are cut off")
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            raise EnrolmentError("a voice's fingerprints are cut off")
        found.append(data[at : at + size])
        at += size
    return tuple(found)


async def earlier(voices: VoiceStore, tenant: str) -> tuple[bytes, ...]:
    """Every fingerprint kept with the tenant's voices, newest voices first.

    Raises :class:`~ringtrue.voices.store.errors.StoreError` and
    :class:`~ringtrue.voices.keys.errors.KeyManagementError`: what can't be read can't be passed
    over.
    """
    known = []
    page = await voices.list(tenant)
    while page:
        known += [voice for voice in page if voice.lifecycle is not Lifecycle.ENROLLING]
        page = await voices.list(tenant, after=page[-1].id) if len(page) == MAX_PAGE else ()
    found: list[bytes] = []
    for voice in sorted(known, key=lambda v: v.created_at, reverse=True):
        if len(found) >= MAX_EARLIER:
            log.warning("replay_history_bounded", tenant=tenant, voices=len(known))
            break
        try:
            blob = await voices.get_blob(tenant, voice.id, FINGERPRINTS)
        except (BlobNotFoundError, VoiceNotFoundError):
            continue  # admitted by other means, or erased meanwhile
        found += unpacked(blob.data)
    return tuple(found[:MAX_EARLIER])


async def add_fingerprints(
    voices: VoiceStore, tenant: str, voice: str, new: Sequence[bytes], now: datetime
) -> None:
    """Remember further recordings of a voice. Raises what the store raises."""
    try:
        old = unpacked((await voices.get_blob(tenant, voice, FINGERPRINTS)).data)
    except BlobNotFoundError:
        old = ()
    await voices.put_blob(tenant, voice, FINGERPRINTS, packed([*old, *new][-MAX_PER_VOICE:]), now)
