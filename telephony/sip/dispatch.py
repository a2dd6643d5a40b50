"""Which of several workers a SIP message is for: by its Call-ID, and new calls by load.

All messages of one Call-ID go to one worker, whatever address, connection or transport they come
by: retransmissions, CANCEL, ACK, in-dialog requests and responses have it in common, and a
REGISTER's do too. Sans-IO. Both tables are bounded, see :class:`CallTable`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ringtrue.streaming.throttle import network_of
from ringtrue.telephony.sip.following import Followed
from ringtrue.telephony.sip.peek import Peek

NOBODY: Final = 0
"""Owner of what no worker works on: the dispatcher's own user agent answers it."""

BRIEF_SECONDS: Final = 40.0
"""A Call-ID without a call is remembered so long after its last message: more than 64*T1."""

UNANSWERED_SECONDS: Final = 300.0
"""An INVITE without a final answer is followed so long."""

MAX_BRIEF: Final = 16_384
MAX_LASTING: Final = 16_384
SWEEP_SECONDS: Final = 10.0


class CallTable:
    """Call-IDs and who works on them.

    Overflow policy: of Call-IDs without a call the one heard longest ago is forgotten first;
    calls beyond :data:`MAX_LASTING` are passed on, but forgotten like those.
    """

    def __init__(self, *, max_brief: int = MAX_BRIEF, max_lasting: int = MAX_LASTING) -> None:
        """Start empty."""
        self._brief: OrderedDict[str, Followed] = OrderedDict()
        self._lasting: dict[str, Followed] = {}
        self._max_brief, self._max_lasting = max_brief, max_lasting
        self._swept = float("-inf")

    def __len__(self) -> int:
        """Call-IDs remembered."""
        return len(self._brief) + len(self._lasting)

    def get(self, call_id: str) -> Followed | None:
        """What is known of a Call-ID."""
        return self._lasting.get(call_id) or self._brief.get(call_id)

    def open(self, call_id: str, owner: int, now: float) -> Followed:
        """Remember a Call-ID."""
        self._sweep(now)
        call = self._brief[call_id] = Followed(call_id, owner, now)
        while len(self._brief) > self._max_brief:
            self._brief.popitem(last=False)
        return call

    def touched(self, call: Followed, now: float) -> None:
        """A message of ``call`` went by and was followed."""
        call.touched = now
        key = call.call_id
        if call.lasting and (key in self._lasting or len(self._lasting) < self._max_lasting):
            self._brief.pop(key, None)
            self._lasting[key] = call
        else:
            self._lasting.pop(key, None)
            self._brief[key] = call
            self._brief.move_to_end(key)

    def owned(self, owner: int) -> list[Followed]:
        """Every Call-ID of ``owner``."""
        return [call for call in self if call.owner == owner]

    def __iter__(self) -> Iterator[Followed]:
        """All that are remembered."""
        yield from tuple(self._lasting.values())
        yield from tuple(self._brief.values())

    def _sweep(self, now: float) -> None:
        while self._brief:
            first = next(iter(self._brief.values()))
            if first.touched + BRIEF_SECONDS > now:
                break
            del self._brief[first.call_id]
        if now < self._swept + SWEEP_SECONDS:
            return
        self._swept = now
        for call in tuple(self._lasting.values()):
            quiet = now - call.touched
            if (call.leaving and quiet >= BRIEF_SECONDS) or (
                not call.dialogs and quiet >= UNANSWERED_SECONDS
            ):
                del self._lasting[call.call_id]


@dataclass(slots=True)
class Share:
    """A worker's load, as it last said, and what it was given since."""

    calls: int = 0
    open: bool = True
    """Whether it takes new calls."""

    given: int = 0
    """Messages it was given so far."""

    new: deque[int] = field(default_factory=deque)
    """Those that began calls and that it had not heard when it last spoke, by their number."""

    @property
    def load(self) -> int:
        """Calls it has, as far as is known."""
        return self.calls + len(self.new)

    def give(self, *, begins_call: bool) -> None:
        """It was given another message."""
        self.given += 1
        if begins_call:
            self.new.append(self.given)


class Dispatcher:
    """Chooses owners."""

    def __init__(
        self,
        table: CallTable | None = None,
        *,
        pinned: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """``pinned`` says of which hosts all new calls go to one worker.

        Those are the ones that have to prove who they are: nonces that were used and passwords
        that were wrong are counted where they are checked, and not once for each worker.
        """
        self.table = CallTable() if table is None else table
        self.shares: dict[int, Share] = {}
        self.draining = False
        self._pinned = pinned

    def owner_of(self, seen: Peek | None, host: str) -> int:
        """Whose a message from ``host`` is; :data:`NOBODY` where no worker has or takes it."""
        if seen is None:
            return NOBODY
        call = self.table.get(seen.call_id)
        if call is not None:
            return call.owner
        return self.choose(seen, host) if seen.begins_call else NOBODY

    def choose(self, seen: Peek, host: str, *, but: int = NOBODY) -> int:
        """A worker for a new call, other than ``but``; :data:`NOBODY` where there is none."""
        replaced = self.table.get(seen.replaces) if seen.replaces else None
        if replaced is not None and replaced.owner in self.shares and replaced.owner != but:
            return replaced.owner
        able = [owner for owner in self.shares if owner != but]
        able = [owner for owner in able if self.shares[owner].open] or able
        if not able:
            return NOBODY
        if self._pinned(host):
            return max(able, key=lambda owner: _weight(network_of(host), owner))
        return min(able, key=lambda owner: (self.shares[owner].load, _weight(seen.call_id, owner)))

    def second(self, call: Followed, seen: Peek) -> int:
        """Another worker for a call that the first one refused as full; once a call."""
        if call.moved or call.asked is None or self.draining:
            return NOBODY
        other = self.choose(seen, call.asked.source.host, but=call.owner)
        return other if other != NOBODY and self.shares[other].open else NOBODY

    def reported(self, owner: int, calls: int, *, is_open: bool, heard: int) -> None:
        """A worker says how busy it is, and how many messages it had ``heard`` by then."""
        share = self.shares.get(owner)
        if share is None:
            return
        share.calls, share.open = calls, is_open
        while share.new and share.new[0] <= heard:
            share.new.popleft()


def _weight(key: str, owner: int) -> bytes:
    """Rendezvous hashing: whoever of those there are has the highest weight for a key has it."""
    text = f"{owner}\0{key}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()
