"""The token a mark carries: who spoke and when, authenticated, as one polar codeword.

96 bits: format (4), time (28: minutes since 2024), session (32), MAC (32). The session number is
random and means something only to the operator's audit log, which knows tenant, voice and call.
The MAC is HMAC-SHA256 over the rest, truncated (NIST SP 800-107 §5.1): a forger without the key
gets one chance in 2³² a try. It also picks among the list decoder's candidates, of which there are
up to 64, so that noise is read as a token at most once in 2²⁶ times; when a mark is over, once more
among up to 512, which is once in 2²³ times.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark import polar
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import SYMBOLS, MarkKey, derive, keystream

FORMAT: Final = 1
EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
TIME_BITS: Final = 28
SESSION_BITS: Final = 32
MAC_BYTES: Final = 4
CLAIM_BYTES: Final = 8
LAST_LIST: Final = 256
"""Candidates when nothing more is to come of a mark, and time doesn't matter: some 40 ms."""

INFORMATION: Final = 8 * (CLAIM_BYTES + MAC_BYTES)

HEAD: Final = tuple(int(bit) for bit in f"{FORMAT:04b}" + 6 * "0")
"""How tokens of sessions begin that began before 2^22 minutes had gone by, in December 2031."""

Symbols = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Token:
    """What one session's mark says."""

    session: int
    """0 to 2³²−1."""

    time: datetime
    """When the session began, to the minute."""

    def __post_init__(self) -> None:
        if not 0 <= self.session < 1 << SESSION_BITS:
            raise WatermarkError(f"session must be 0 to 2^{SESSION_BITS}-1, got {self.session}")
        if self.time.tzinfo is None:
            raise WatermarkError(f"time {self.time} has no time zone")
        if not 0 <= self._minutes < 1 << TIME_BITS:
            raise WatermarkError(f"time {self.time} is outside what a token can say")

    @property
    def _minutes(self) -> int:
        return (self.time - EPOCH) // timedelta(minutes=1)

    def to_bytes(self) -> bytes:
        """The 8 bytes that are authenticated."""
        head = FORMAT << TIME_BITS | self._minutes
        return (head << SESSION_BITS | self.session).to_bytes(CLAIM_BYTES, "big")


def _from_bytes(claim: bytes) -> Token | None:
    value = int.from_bytes(claim, "big")
    head, session = value >> SESSION_BITS, value & (1 << SESSION_BITS) - 1
    if head >> TIME_BITS != FORMAT:
        return None
    try:
        time = EPOCH + timedelta(minutes=head & (1 << TIME_BITS) - 1)
    except OverflowError:
        return None
    return Token(session, time)


def _mac(key: MarkKey, claim: bytes) -> bytes:
    return hmac.digest(derive(key.secret, "mac"), claim, "sha256")[:MAC_BYTES]


def _order(key: MarkKey) -> npt.NDArray[np.intp]:
    order = np.frombuffer(keystream(key.secret, "order", SYMBOLS * 4), "<u4")
    return np.argsort(order, kind="stable")


def _signs(key: MarkKey) -> Symbols:
    bits = np.frombuffer(keystream(key.secret, "signs", SYMBOLS), np.uint8) & 1
    return 1.0 - 2.0 * bits.astype(np.float64)


def symbols(key: MarkKey, token: Token) -> Symbols:
    """One period's symbols, ±1, shape ``(SYMBOLS,)``."""
    claim = token.to_bytes()
    bits = np.unpackbits(np.frombuffer(claim + _mac(key, claim), np.uint8))
    word = 1.0 - 2.0 * polar.encode(bits).astype(np.float64)
    return (word * _signs(key))[_order(key)]


def read(key: MarkKey, soft: Symbols, *, candidates: int = polar.LIST) -> Token | None:
    """The token in soft symbols (any scale), ``(SYMBOLS,)``; None where no MAC is valid."""
    likelihoods = np.empty(SYMBOLS)
    likelihoods[_order(key)] = soft
    likelihoods *= _signs(key)
    scale = float(np.sqrt((likelihoods**2).mean()))
    if not np.isfinite(scale) or scale == 0.0:
        return None
    likelihoods /= scale
    for bits in (
        *polar.decode(likelihoods, INFORMATION, candidates, head=HEAD),
        *polar.decode(likelihoods, INFORMATION, candidates),
    ):
        raw = np.packbits(bits).tobytes()
        claim, mac = raw[:CLAIM_BYTES], raw[CLAIM_BYTES:]
        if hmac.compare_digest(mac, _mac(key, claim)):
            return _from_bytes(claim)
    return None
