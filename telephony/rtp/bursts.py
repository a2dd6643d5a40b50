"""How losses cluster: bursts and gaps as RFC 3611 §4.7.2 defines them.

A *burst* is the longest stretch that begins and ends with a loss and has fewer than
:data:`GMIN` received packets between any two of its losses; everything else is *gap*. A packet
that came too late to be played counts as lost here, because that is what it was to the listener.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GMIN: Final = 16
"""Received packets in a row that end a burst (RFC 3611 §4.7.2)."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """What :class:`BurstMeter` found. Shares are 0–1."""

    loss: float
    """Of all packets, late ones included."""

    burst_density: float
    """Share lost within bursts."""

    gap_density: float
    """Share lost outside of them."""

    burst_packets: float
    """Mean length of a burst."""

    gap_packets: float
    """Mean length of a gap."""

    burst_ratio: float
    """Mean run of losses against that of random loss at the same rate (G.107 §7.5); at least 1."""


class BurstMeter:
    """Counts packets in the order in which they are played. All counters fit in a few ints."""

    __slots__ = (
        "_burst_lost",
        "_burst_packets",
        "_bursts",
        "_length",
        "_losses",
        "_lost",
        "_packets",
        "_runs",
        "_since",
    )

    def __init__(self) -> None:
        """Nothing was played yet."""
        self._packets = self._lost = 0
        self._runs = 0
        self._bursts = 0
        self._burst_packets = self._burst_lost = 0
        self._since = GMIN
        """Packets received since the last loss."""

        self._length = self._losses = 0
        """Of the burst being built: from its first loss to its last, and the losses in it."""

    @property
    def lost(self) -> int:
        """Packets that were not there when they were to be played."""
        return self._lost

    def played(self, missing: int) -> None:
        """A packet was played; ``missing`` ones before it were not."""
        if missing:
            self._packets += missing
            self._lost += missing
            self._runs += 1
            if self._since < GMIN:
                self._length += self._since + missing
            else:
                self._end()
                self._length = missing
            self._losses += missing
            self._since = 0
        self._packets += 1
        self._since += 1

    def _end(self) -> None:
        """The burst being built is complete; a single loss alone is none."""
        if self._losses > 1:
            self._bursts += 1
            self._burst_packets += self._length
            self._burst_lost += self._losses
        self._length = self._losses = 0

    def clustering(self) -> Clustering:
        """So far; a burst still open counts up to its last loss."""
        bursts, packets, lost = self._bursts, self._burst_packets, self._burst_lost
        if self._losses > 1:
            bursts, packets, lost = bursts + 1, packets + self._length, lost + self._losses
        outside = self._packets - packets
        loss = self._lost / self._packets if self._packets else 0.0
        mean_run = self._lost / self._runs if self._runs else 1.0
        return Clustering(
            loss=loss,
            burst_density=lost / packets if packets else 0.0,
            gap_density=(self._lost - lost) / outside if outside else 0.0,
            burst_packets=packets / bursts if bursts else 0.0,
            gap_packets=outside / (bursts + 1),
            burst_ratio=max(1.0, mean_run * (1 - loss)),
        )
