"""Settings of admission: how much the process may carry before new calls are refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ringtrue.config.section import Seconds, Section

Share = Annotated[float, Field(gt=0, le=1)]
Milliseconds = Annotated[float, Field(gt=0, le=60_000)]


class AdmissionSettings(Section):
    """When a new call is refused for the sake of those that are up.

    ``server.max_calls`` stays the upper limit, whatever is measured here.
    """

    enabled: bool = True
    min_calls: Annotated[int, Field(ge=0, le=10_000)] = 4
    """So many calls are taken whatever is measured."""

    loop_share: Share = 0.75
    """Of one core, what the event loop may use: it carries the media of all calls."""

    cpu_share: Share = 0.75
    """Of the cores this process may use, what it and its workers may: with one core, from 0.8 on
    turns wait for it."""

    burst_deviations: Annotated[float, Field(ge=0, le=10)] = 2
    """Standard deviations of one second's CPU that are kept free, of all cores, for turns that end
    together: with few cores that is the narrower limit."""

    tick_lateness_ms: Milliseconds = 8
    """Lateness of media ticks, p95 of the last seconds."""

    queue_seconds: Seconds = 0.5
    """Audio that may wait for the graph or the recognizer, in the worst call."""

    synthesis_jobs: Annotated[float, Field(gt=0, le=1000)] = 4
    """Pieces of speech that may wait for each synthesis thread."""

    ttfa_ms: Milliseconds = 200
    turn_latency_ms: Milliseconds = 800
    """The budgets of running calls, p95 of the last turns."""

    margin: Share = 0.85
    """Share of each budget, and of what may wait, at which the door closes."""

    resume: Share = 0.8
    """Share of that at which it opens again."""

    calm_seconds: Seconds = 3
    """For how long it must have been so."""

    inbound_reserve: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Of all capacity, what is kept for inbound calls: outbound calls don't get it."""

    call_cost: Share = 0.04
    """Cores a call counts for until calls were measured: more than it is likely to take."""

    settle_seconds: Seconds = 20
    """How long after its answer a call is under way, and what calls cost may be learned from it:
    greeting and two turns."""

    starts_per_second: Annotated[float, Field(gt=0, le=1000)] = 20
    """Calls begun at most: beginning one takes the loop longer than a second of it does."""

    wait_seconds: Seconds = 2
    """How long a call may wait for its turn to begin; more of them are refused."""
