"""What ``/metrics`` shows of the library of cloned voices: its cache, its bus and its Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.voices.cache.breaker import BreakerState
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.rolling_likeness import LikenessStats


class LibraryCollector(Collector):
    """Reads a library's counters at scrape time. They begin anew when the library is reopened."""

    def __init__(self, library: Callable[[], VoiceLibrary | None]) -> None:
        """``library`` gives None while there is none, or it can't be had."""
        self._library = library

    def collect(self) -> Iterable[Metric]:
        """Whether the library is open, and its counters where it is."""
        library = self._library()
        yield GaugeMetricFamily(
            "ringtrue_voices_open",
            "Whether the library of voices is open",
            value=library is not None,
        )
        if library is None:
            return
        yield from _cache(library)
        yield from _redis(library)
        yield from _bus(library)


class LikenessCollector(Collector):
    """Reads at scrape time what was heard of cloned voices in calls."""

    def __init__(self, stats: LikenessStats) -> None:
        """Show ``stats``."""
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        """Windows by what became of them, and alarms."""
        stats = self._stats
        yield _counts(
            "ringtrue_likeness_windows",
            "Windows of 1.6 s of cloned voices, by what was heard in them",
            "fate",
            {
                "like": stats.judged - stats.below,
                "unlike": stats.below,
                "speechless": stats.speechless,
                "skipped": stats.skipped,
                "failed": stats.failed,
            },
        )
        yield CounterMetricFamily(
            "ringtrue_likeness_alarms",
            "Cloned voices taken out of a call because they were not themselves",
            value=stats.alarms,
        )


def _cache(library: VoiceLibrary) -> Iterable[Metric]:
    stats = library.cache.stats
    yield _counts(
        "ringtrue_voice_cache_reads",
        "Reads of voices' data, by what answered them",
        "from",
        {
            "memory": stats.memory_hits,
            "redis": stats.redis_hits,
            "store": stats.misses,
            "another_read": stats.joined,
        },
    )
    yield _counts(
        "ringtrue_voice_cache_writes",
        "Values offered to Redis",
        "fate",
        {"stored": stats.stored, "not_stored": stats.not_stored},
    )
    yield CounterMetricFamily(
        "ringtrue_voice_cache_unusable", "Values in Redis that did not open", value=stats.unusable
    )
    yield CounterMetricFamily(
        "ringtrue_voice_cache_drops", "Voices dropped from the cache", value=stats.drops
    )
    yield GaugeMetricFamily(
        "ringtrue_voice_cache_drops_pending",
        "Drops that Redis was not told yet",
        value=stats.drops_pending,
    )
    yield GaugeMetricFamily(
        "ringtrue_voice_cache_bytes", "What is cached in memory", value=library.cache.memory_bytes
    )


def _redis(library: VoiceLibrary) -> Iterable[Metric]:
    link, state = library.cache.link_stats, library.cache.redis_state
    if link is None or state is None:
        return
    answered = link.commands - link.failures - link.refusals
    yield _counts(
        "ringtrue_redis_commands",
        "Commands to Redis; answered: those nobody waited for any more too",
        "fate",
        {
            "answered": answered,
            "failed": link.failures,
            "refused": link.refusals,
            "skipped": link.skipped,
        },
    )
    breaker = GaugeMetricFamily(
        "ringtrue_redis_breaker", "State of Redis's circuit breaker", labels=["state"]
    )
    for each in BreakerState:
        breaker.add_metric([each.value], each is state)
    yield breaker


def _bus(library: VoiceLibrary) -> Iterable[Metric]:
    stats, bus = library.revocations.stats, library.revocations
    yield _counts(
        "ringtrue_revocations",
        "News of voices that were withdrawn, erased or changed",
        "what",
        {"published": stats.published, "heard": stats.heard, "unreadable": stats.unreadable},
    )
    yield GaugeMetricFamily(
        "ringtrue_revocations_unsent", "Voices whose news is not out yet", value=stats.unsent
    )
    yield GaugeMetricFamily(
        "ringtrue_revocations_connected", "Whether the bus is subscribed to", value=bus.connected
    )
    yield _counts(
        "ringtrue_revocations_subscriptions",
        "Times the subscription began, and ended or could not begin",
        "what",
        {"began": stats.subscriptions, "lost": stats.losses},
    )
    yield CounterMetricFamily(
        "ringtrue_revocations_checks_failed",
        "Times consents could not be looked at after a gap in the news",
        value=stats.checks_failed,
    )


def _counts(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
