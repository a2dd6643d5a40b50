"""Losses in clusters, against counts made by hand and RFC 3611's definition."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.loadtest.netem import Impairments, Netem
from ringtrue.telephony.rtp.bursts import GMIN, BurstMeter


def metered(pattern: str) -> BurstMeter:
    """``.`` was played, ``x`` was not; ends with a packet that was."""
    meter, missing = BurstMeter(), 0
    for char in pattern + ".":
        if char == "x":
            missing += 1
        else:
            meter.played(missing)
            missing = 0
    return meter


def by_definition(pattern: str) -> tuple[int, int, int]:
    """Bursts, packets in them, losses in them: maximal stretches without GMIN dots in a row."""
    bursts = packets = lost = 0
    losses = [at for at, char in enumerate(pattern) if char == "x"]
    while losses:
        run = [losses.pop(0)]
        while losses and losses[0] - run[-1] - 1 < GMIN:
            run.append(losses.pop(0))
        if len(run) > 1:
            bursts, packets, lost = bursts + 1, packets + run[-1] - run[0] + 1, lost + len(run)
    return bursts, packets, lost


def test_nothing_lost() -> None:
    found = metered("." * 100).clustering()
    assert (found.loss, found.burst_density, found.gap_density, found.burst_ratio) == (0, 0, 0, 1)
    assert found.gap_packets == 101
    assert BurstMeter().clustering().loss == 0


def test_single_losses_far_apart_are_gap() -> None:
    found = metered(("x" + "." * 19) * 10).clustering()
    assert found.burst_density == found.burst_packets == 0
    assert found.gap_density == found.loss == pytest.approx(10 / 201)


def test_losses_near_each_other_are_a_burst() -> None:
    found = metered("." * 50 + "x..x.xx" + "." * 50).clustering()
    assert found.burst_packets == 7
    assert found.burst_density == pytest.approx(4 / 7)
    assert found.gap_density == 0
    assert found.burst_ratio == pytest.approx(4 / 3 * (1 - 4 / 108))


@given(st.text(alphabet="....x", max_size=300))
def test_as_the_definition_has_it(pattern: str) -> None:
    meter = metered(pattern)
    found = meter.clustering()
    bursts, packets, lost = by_definition(pattern)
    assert meter.lost == pattern.count("x")
    assert found.burst_packets == pytest.approx(packets / bursts if bursts else 0)
    assert found.burst_density == pytest.approx(lost / packets if packets else 0)


def test_the_burst_ratio_tells_bursts_from_chance() -> None:
    rng = random.Random(3)
    chance = metered("".join("x" if rng.random() < 0.1 else "." for _ in range(20_000)))
    assert chance.clustering().burst_ratio == pytest.approx(1, abs=0.05)
    path: Netem[int] = Netem(Impairments.bursty(0.1, 4), 5)
    arrived = set()
    for n in range(20_000):
        path.send(n, float(n))
        arrived.update(number for _, number in path.deliver(float(n)))
    clustered = metered("".join("." if n in arrived else "x" for n in range(20_000)))
    assert clustered.clustering().burst_ratio == pytest.approx(4 * 0.9, rel=0.15)
