"""The network emulator: repeatable, and with the statistics it was asked for."""

from __future__ import annotations

import dataclasses

import pytest

from ringtrue.loadtest.netem import CAPACITY, Impairments, Netem, drifted

EVERYTHING = Impairments(
    to_bad=0.02,
    to_good=0.4,
    delay=0.05,
    jitter=0.01,
    spike=0.002,
    spike_delay=0.1,
    reorder=0.1,
    duplicate=0.05,
)


def deliveries(how: Impairments, seed: int, count: int = 20_000) -> list[tuple[float, int]]:
    path: Netem[int] = Netem(how, seed)
    arrived = []
    for number in range(count):
        path.send(number, number * 0.02)
        arrived += path.deliver(number * 0.02)
    return arrived + path.deliver(1e9)


def test_the_same_seed_gives_the_same_network() -> None:
    assert deliveries(EVERYTHING, 7) == deliveries(EVERYTHING, 7)
    assert deliveries(EVERYTHING, 7) != deliveries(EVERYTHING, 8)


def test_without_impairments_everything_arrives_at_once_and_in_order() -> None:
    assert deliveries(Impairments(), 1, 50) == [(n * 0.02, n) for n in range(50)]


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1.0), (0.05, 2.0), (0.2, 5.0)])
def test_loss_and_its_bursts_are_as_asked(loss: float, burst: float) -> None:
    got = {number for _, number in deliveries(Impairments.bursty(loss, burst), 3, 200_000)}
    lost = [number not in got for number in range(200_000)]
    bursts = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    assert sum(lost) / len(lost) == pytest.approx(loss, rel=0.1)
    assert sum(lost) / bursts == pytest.approx(burst, rel=0.1)


def test_jitter_keeps_order_unless_reordering_is_asked_for() -> None:
    jittered = [n for _, n in deliveries(Impairments(jitter=0.03), 1)]
    assert jittered == sorted(jittered)
    reordered = [n for _, n in deliveries(Impairments(jitter=0.03, reorder=0.5), 1)]
    assert reordered != sorted(reordered)


def test_delay_is_a_floor() -> None:
    assert min(at - n * 0.02 for at, n in deliveries(EVERYTHING, 1)) >= 0.05


def test_duplicates_are_counted_and_delivered() -> None:
    path: Netem[int] = Netem(Impairments(duplicate=0.5), 1)
    for number in range(1000):
        path.send(number, 0.0)
    arrived = [number for _, number in path.deliver(1.0)]
    assert len(arrived) == 1000 + path.stats.duplicated
    assert 400 < path.stats.duplicated < 600


def test_a_full_path_loses_what_is_over() -> None:
    path: Netem[int] = Netem(Impairments(delay=1.0), 1)
    for number in range(CAPACITY + 5):
        path.send(number, 0.0)
    assert path.stats.lost == 5
    assert path.next_arrival() == 1.0


def test_drift_is_in_parts_per_million() -> None:
    assert drifted(1000.0, 100) == pytest.approx(1000.1)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Impairments)])
def test_values_out_of_range_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Impairments(**{field: -0.5})
