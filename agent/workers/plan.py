"""What each of N workers is told: the settings, with what they share divided among them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace

from pydantic import SecretStr

from ringtrue.agent.workers.marks import mark_of
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import FliteSettings, PocketsphinxSettings, Settings
from ringtrue.telephony.sip.account import Account


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker. Its settings hold secrets: it is handed over by a pipe and never shown."""

    settings: Settings
    slot: int
    """From 0; a worker that takes the place of a dead one has its slot."""

    count: int
    """How many workers there are."""

    sip_port: int
    tls_port: int
    http_port: int
    """Ports the supervisor is bound to; 0 where it isn't."""

    @property
    def primary(self) -> bool:
        """Whether it is the one that registers, has the accounts' ledger and serves ``/v1``."""
        return self.slot == 0

    @property
    def mark(self) -> str:
        """What tells its tokens and paths from other workers'."""
        return mark_of(self.slot)

    def accounts(self, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        """The accounts as this worker has them: one worker registers, all can call by them."""
        if self.primary:
            return accounts
        return tuple(replace(account, register=False) for account in accounts)


def count_of(settings: Settings) -> int:
    """How many workers the settings mean; one where they don't ask for any."""
    wanted = settings.server.workers
    if wanted != "auto":
        return wanted
    return max(1, len(os.sched_getaffinity(0)))


def alike(settings: Settings) -> Settings:
    """The settings with what all workers must have in common and nobody chose."""
    webrtc = settings.webrtc
    if webrtc.token_key is not None:
        return settings
    key = SecretStr(secrets.token_urlsafe(32))
    return settings.model_copy(update={"webrtc": webrtc.model_copy(update={"token_key": key})})


def share_of(settings: Settings, slot: int, count: int) -> Settings:
    """The settings of worker ``slot`` of ``count``.

    Media ports are divided, and so are the places for calls and what admission lets them use of
    the processors: together the workers have what one process would. Recognizer processes and
    synthesis threads are divided as far as that goes: each worker has at least one.

    Raises :class:`ConfigError` where there are fewer ports or places than workers.
    """
    sip, server = settings.sip, settings.server
    first, last = sip.rtp_port_min, sip.rtp_port_max
    pairs = len(range(first, last, 2))
    if sip.enabled and pairs < count:
        raise ConfigError(
            f"sip.rtp_port_min to rtp_port_max are {first} to {last}: {pairs} pairs of ports, "
            f"but server.workers is {count}; each needs one at least"
        )
    if server.max_calls < count:
        raise ConfigError(
            f"server.max_calls is {server.max_calls}, but server.workers is {count}; each worker "
            "needs room for one call at least"
        )
    begin, end = pairs * slot // count, pairs * (slot + 1) // count
    places = server.max_calls * (slot + 1) // count - server.max_calls * slot // count
    admission = settings.admission
    update: dict[str, object] = {
        "admission": admission.model_copy(
            update={
                "cpu_share": admission.cpu_share / count,
                "min_calls": admission.min_calls // count,
            }
        ),
        "sip": sip.model_copy(
            update={"rtp_port_min": first + 2 * begin, "rtp_port_max": first + 2 * end - 1}
        ),
        "server": server.model_copy(update={"max_calls": places}),
    }
    if isinstance(settings.stt, PocketsphinxSettings):
        processes = max(1, settings.stt.processes // count)
        update["stt"] = settings.stt.model_copy(update={"processes": processes})
    if isinstance(settings.tts, FliteSettings):
        threads = max(1, settings.tts.threads // count)
        update["tts"] = settings.tts.model_copy(update={"threads": threads})
    return settings.model_copy(update=update)
