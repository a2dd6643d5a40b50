"""How recently this process has certainly heard every revocation there was.

A ping goes out on the very connection the revocations come in by, and Redis answers on it in
order. So an answer proves that everything published before its ping was *sent* has been heard,
whatever the clocks of other machines say. Of a new subscription that holds only once everything
leased before it has been checked against the database.
"""

from __future__ import annotations


class Freshness:
    """Keeps the proof; ``now`` is in seconds on any monotonic clock."""

    def __init__(self, lease: float) -> None:
        """A proof counts for ``lease`` seconds."""
        if not lease > 0:
            raise ValueError(f"a lease of {lease} s; allowed: above 0")
        self._lease = lease
        self._proven: float | None = None
        self._answered: float | None = None
        self._sent: dict[bytes, float] = {}
        self._numbers = 0
        self._checked = False
        self.generation = 0
        """Which subscription this is, counted from 1."""

    @property
    def proven(self) -> float | None:
        """Everything published before this moment was heard or checked; None before the first."""
        return self._proven

    def begun(self) -> int:
        """A subscription was confirmed. Returns its number, for :meth:`checked`."""
        self.lost()
        self.generation += 1
        return self.generation

    def lost(self) -> None:
        """The subscription is over. What it proved still counts until its lease runs out."""
        self._sent.clear()
        self._answered = None
        self._checked = False

    def checked(self, generation: int) -> None:
        """Everything leased before subscription ``generation`` was checked since it began."""
        if generation == self.generation:
            self._checked = True
            self._prove()

    def ping(self, now: float) -> bytes:
        """A ping is being sent; returns what it must carry."""
        self._numbers += 1
        token = b"%d.%d" % (self.generation, self._numbers)
        self._sent[token] = now
        return token

    def pong(self, token: bytes) -> None:
        """The answer to a ping came; unknown ones are passed over."""
        sent = self._sent.get(token)
        if sent is None:
            return
        for earlier in [t for t, at in self._sent.items() if at <= sent]:
            del self._sent[earlier]
        self._answered = sent
        self._prove()

    def unanswered(self, now: float) -> float:
        """For how many seconds the oldest ping on its way has waited; 0 without one."""
        return now - min(self._sent.values(), default=now)

    def fresh(self, now: float) -> bool:
        """Whether everything published up to ``now`` less the lease was heard or checked."""
        return self._proven is not None and now - self._proven <= self._lease

    def _prove(self) -> None:
        if self._checked and self._answered is not None:
            self._proven = max(self._answered, self._proven or self._answered)
