from __future__ import annotations

import random

import pytest

from ringtrue.voices.cache.memory import ENTRY_COST, MemoryCache


def cache(entries: int, size: int = 100, ttl: float = 60.0) -> MemoryCache:
    """Room for this many entries of ``size`` bytes."""
    return MemoryCache(limit=entries * (size + ENTRY_COST), ttl=ttl)


def test_the_least_recently_used_goes_first() -> None:
    memory = cache(2)
    memory.put("a", "v", b"a" * 100, 0.0)
    memory.put("b", "v", b"b" * 100, 0.0)
    assert memory.get("a", 0.0) is not None
    memory.put("c", "v", b"c" * 100, 0.0)
    assert memory.get("b", 0.0) is None
    assert memory.get("a", 0.0) == b"a" * 100
    assert memory.get("c", 0.0) == b"c" * 100


def test_it_never_takes_more_than_its_limit_and_counts_right() -> None:
    rng = random.Random(7)
    memory = MemoryCache(limit=20_000, ttl=5.0)
    now = 0.0
    for _ in range(3000):
        now += rng.random() / 10
        name, voice = f"n{rng.randrange(60)}", f"v{rng.randrange(6)}"
        action = rng.random()
        if action < 0.6:
            memory.put(name, voice, bytes(rng.randrange(4000)), now)
        elif action < 0.9:
            memory.get(name, now)
        elif action < 0.95:
            memory.remove(name)
        else:
            memory.drop(voice)
        assert memory.size <= 20_000
    held = [memory.get(f"n{n}", now) for n in range(60)]
    assert memory.size == sum(len(data) + ENTRY_COST for data in held if data is not None) > 0


def test_entries_age() -> None:
    memory = cache(2, ttl=10.0)
    memory.put("a", "v", b"a", 100.0)
    assert memory.get("a", 109.9) == b"a"
    assert memory.get("a", 110.0) is None
    assert len(memory) == 0
    assert memory.size == 0


def test_what_is_too_large_by_itself_is_not_kept_and_pushes_nothing_out() -> None:
    memory = cache(2)
    memory.put("a", "v", b"a" * 100, 0.0)
    memory.put("b", "v", bytes(1000), 0.0)
    assert memory.get("b", 0.0) is None
    assert memory.get("a", 0.0) is not None


def test_dropping_a_voice_leaves_the_others() -> None:
    memory = cache(3)
    memory.put("a", "v1", b"a", 0.0)
    memory.put("b", "v2", b"b", 0.0)
    memory.put("c", "v1", b"c", 0.0)
    memory.drop("v1")
    assert [memory.get(name, 0.0) for name in "abc"] == [None, b"b", None]
    memory.clear()
    assert memory.size == len(memory) == 0


def test_a_limit_of_nothing_keeps_nothing() -> None:
    memory = MemoryCache(limit=0, ttl=1.0)
    memory.put("a", "v", b"", 0.0)
    assert len(memory) == 0


@pytest.mark.parametrize(("limit", "ttl"), [(-1, 1.0), (1, 0.0)])
def test_limits_that_make_no_sense_are_refused(limit: int, ttl: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 or more, above 0"):
        MemoryCache(limit=limit, ttl=ttl)
