"""Calls joined so that their far ends hear each other: mix-minus, one frame a tick.

::

    call A: far end ─ tick_in ─▶ seat A ┐            ┌ seat A: B + C ─▶ gate A ─▶ far end
    call B: far end ─ tick_in ─▶ seat B ┼─ bridge ───┼ seat B: A + C ─▶ gate B ─▶ far end
    call C: far end ─ tick_in ─▶ seat C ┘            └ seat C: A + B ─▶ gate C ─▶ far end

What a seat is given comes from its call's leg and nowhere else; what the agent says goes another
way, by :meth:`Seat.share`, and is sealed, marked and licensed for each call that hears it. Nothing
here does I/O or reads a clock. Frames are 20 ms of 16-bit PCM; every call may have its own rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.clock import TICK
from ringtrue.streaming.dsp import FrameRerater, mixed
from ringtrue.streaming.ports import Licence

MAX_SEATS: Final = 8
"""Calls that one bridge may join."""

FRESH: Final = 1.5 * TICK
"""How old a frame may be that is passed on: of this tick, or of the one before."""


@dataclass(frozen=True, slots=True)
class Others:
    """What the other calls' far ends say in one tick; a
    :class:`~ringtrue.streaming.provenance.Origin`."""

    pcm: bytes
    """Their sum, at the rate of who hears it."""

    call: str
    _seats: tuple[Seat, ...]

    def live(self, now: float) -> bool:
        """Whether all of those calls are up and their far ends there."""
        return all(seat.live(now) for seat in self._seats)


@dataclass(frozen=True, slots=True)
class Share:
    """20 ms of what the agent of one call says to all of them, not marked yet."""

    pcm: bytes
    """At the rate of who hears it."""

    licence: Licence | None
    made_at: float
    utterance: int
    """Changes where another utterance begins."""


class _Heard:
    """A seat's newest frame, at whatever rates it is wanted."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frames: dict[int, bytes] = {}
        self._reraters: dict[int, FrameRerater] = {}
        self.at = float("-inf")

    def put(self, pcm: bytes, now: float) -> None:
        self._frames = {self._rate: pcm}
        self.at = now

    def take(self, rate: int) -> bytes:
        frame = self._frames.get(rate)
        if frame is None:
            rerater = self._reraters.get(rate)
            if rerater is None:
                rerater = self._reraters[rate] = FrameRerater(self._rate, rate)
            frame = self._frames[rate] = rerater.frame(self._frames[self._rate])
        return frame


class Seat:
    """One call's place in a bridge; its session is the only one that uses it."""

    def __init__(self, bridge: Bridge, call: str, rate: int, up: Callable[[float], bool]) -> None:
        """Use :meth:`Bridge.seat`."""
        self._bridge = bridge
        self._up = up
        self._said = _Heard(rate)
        self._shared = _Heard(rate)
        self._share: tuple[Licence | None, float, int] | None = None
        self._taken: dict[Seat, float] = {}
        self.call = call
        self.rate = rate

    def live(self, now: float) -> bool:
        """Whether its call is up, its far end there, and its clock running."""
        return now - self._said.at < FRESH and self._up(now)

    def put(self, pcm: bytes, now: float) -> None:
        """This tick's 20 ms of its far end, as the leg gave it."""
        self._said.put(pcm, now)

    def others(self, now: float) -> Others | None:
        """What its far end hears of the others' in this tick; None where there is nobody."""
        there = tuple(seat for seat in self._bridge.seats if seat is not self and seat.live(now))
        if not there:
            return None
        pcm = mixed(*(seat._said.take(self.rate) for seat in there))
        return Others(pcm, ",".join(seat.call for seat in there), there)

    def room(self, pcm: bytes, now: float) -> bytes:
        """What an agent hears that takes part: its own far end's ``pcm``, and the others'.

        The others' may be of the tick before, where they are pulled later.
        """
        others = self.others(now)
        return pcm if others is None else mixed(pcm, others.pcm)

    def share(
        self, pcm: bytes, licence: Licence | None, made_at: float, utterance: int, now: float
    ) -> None:
        """The agent of this call says ``pcm``, to its own far end by its gate and to the others
        by theirs."""
        self._shared.put(pcm, now)
        self._share = licence, made_at, utterance

    def shared(self, now: float) -> Share | None:
        """What the agent of another call says in this tick, each frame once; None: nothing."""
        for seat in self._bridge.seats:
            heard = seat._shared
            if seat is self or seat._share is None or now - heard.at >= FRESH:
                continue
            if self._taken.get(seat) == heard.at:
                continue
            self._taken[seat] = heard.at
            return Share(heard.take(self.rate), *seat._share)
        return None

    def leave(self) -> None:
        """Its far end is heard no more, and hears nobody. Idempotent."""
        self._bridge.leave(self)


class Bridge:
    """Up to :data:`MAX_SEATS` calls joined."""

    def __init__(self) -> None:
        """Nobody is in it."""
        self._seats: dict[Seat, None] = {}

    def __len__(self) -> int:
        """How many calls it joins."""
        return len(self._seats)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """In the order they came."""
        return tuple(self._seats)

    def seat(self, call: str, rate: int, up: Callable[[float], bool]) -> Seat:
        """A place for the call ``call`` with PCM at ``rate`` Hz.

        ``up`` says whether it is up and its far end was heard lately. Raises ``ValueError`` for
        one too many.
        """
        if len(self._seats) >= MAX_SEATS:
            raise ValueError(f"a bridge joins at most {MAX_SEATS} calls")
        seat = Seat(self, call, rate, up)
        self._seats[seat] = None
        return seat

    def leave(self, seat: Seat) -> None:
        """``seat`` is in it no more."""
        self._seats.pop(seat, None)
