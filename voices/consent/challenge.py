"""Challenges: what a speaker is asked to say, so that an old recording can't say it.

The token is the challenge: its words are derived from the token's secret, and a store keeps only
a hash over the secret, tenant, name and purpose. Whoever reads that store learns no phrase, and a
token redeems only for what it was issued for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.consent.words import DIGITS, WORDS

DIGIT_COUNT: Final = 3
WORD_COUNT: Final = 2

DEFAULT_TTL: Final = timedelta(minutes=10)
MAX_TTL: Final = timedelta(hours=1)

MAX_NAME: Final = 80
MAX_PURPOSE: Final = 160

_TOKEN: Final = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{43})")


def clean(what: str, text: str, limit: int) -> str:
    """``text`` in NFC with single spaces, fit to be read out.

    Raises :class:`ValueError` naming ``what`` if it is empty, longer than ``limit`` characters,
    or holds something that can't be printed.
    """
    cleaned = " ".join(unicodedata.normalize("NFC", text).split())
    if not 0 < len(cleaned) <= limit:
        raise ValueError(f"{what} has {len(cleaned)} characters; allowed: 1 to {limit}")
    if not cleaned.isprintable():
        raise ValueError(f"{what} holds characters that can't be printed")
    return cleaned


@dataclass(frozen=True, slots=True)
class Challenge:
    """What one person is asked to say for one purpose."""

    id: str
    tenant: str
    name: str = field(repr=False)
    purpose: str = field(repr=False)
    digits: tuple[int, ...] = field(repr=False)
    words: tuple[str, ...] = field(repr=False)
    expires: datetime

    @property
    def statement(self) -> str:
        """The sentence of consent alone."""
        return f"I, {self.name}, consent to the cloning of my voice for {self.purpose}."

    @property
    def phrase(self) -> str:
        """The random part as shown: ``7 4 9 amber river``."""
        return " ".join([*map(str, self.digits), *self.words])

    @property
    def text(self) -> str:
        """All of it, as shown to the speaker."""
        return f"{self.statement} {self.phrase}."

    @property
    def spoken_phrase(self) -> tuple[str, ...]:
        """The random part as a recognizer hears it: ``seven four nine amber river``."""
        return (*(DIGITS[digit] for digit in self.digits), *self.words)


@dataclass(frozen=True, slots=True)
class IssuedChallenge:
    """A challenge and the token that redeems it, once. The token goes to the speaker only."""

    challenge: Challenge
    token: str = field(repr=False)
    digest: bytes = field(repr=False)
    """32 bytes to store in place of the token."""


def issue(
    tenant: str, name: str, purpose: str, now: datetime, ttl: timedelta = DEFAULT_TTL
) -> IssuedChallenge:
    """A new challenge.

    Raises :class:`ValueError` on a name or purpose that can't be read out, on a ``ttl`` outside
    0 … 1 h, and on a ``now`` without a time zone.
    """
    if not timedelta(0) < ttl <= MAX_TTL:
        raise ValueError(f"ttl {ttl} must be above 0 and at most {MAX_TTL}")
    if now.tzinfo is None:
        raise ValueError(f"now {now} has no time zone")
    token = f"{secrets.token_hex(16)}.{secrets.token_urlsafe(32)}"
    challenge, digest = open_token(token, tenant, name, purpose, now + ttl)
    return IssuedChallenge(challenge, token, digest)


def open_token(
    token: str, tenant: str, name: str, purpose: str, expires: datetime
) -> tuple[Challenge, bytes]:
    """The challenge a token stands for, and the hash it must have been stored under.

    Says nothing about whether it was ever issued. Raises :class:`ChallengeError` (``malformed``)
    where the token has not the shape of one, :class:`ValueError` on an unfit name or purpose.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ChallengeError(ChallengeRefusal.MALFORMED, "that is not a challenge's token")
    challenge_id, secret = match.group(1), match.group(2).encode()
    name = clean("name", name, MAX_NAME)
    purpose = clean("purpose", purpose, MAX_PURPOSE)
    # 256 bits over some 24 bits of choice: the bias of the remainders is beyond measuring.
    number = int.from_bytes(hmac.digest(secret, b"ringtrue/challenge/phrase", "sha256"), "big")
    digits, words = [], []
    for _ in range(DIGIT_COUNT):
        number, choice = divmod(number, len(DIGITS))
        digits.append(choice + 1)
    for _ in range(WORD_COUNT):
        number, choice = divmod(number, len(WORDS))
        words.append(WORDS[choice])
    bound = b"ringtrue/challenge/bound"
    for part in (challenge_id, tenant, name, purpose):
        raw = part.encode()
        bound += len(raw).to_bytes(4, "big") + raw
    digest = hmac.digest(hashlib.sha256(secret).digest(), bound, "sha256")
    challenge = Challenge(challenge_id, tenant, name, purpose, tuple(digits), tuple(words), expires)
    return challenge, digest
