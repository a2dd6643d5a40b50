"""What each worker is told."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from ringtrue.agent.workers.plan import WorkerPlan, alike, count_of, share_of
from ringtrue.config.errors import ConfigError, SettingsError
from ringtrue.config.settings import FliteSettings, PocketsphinxSettings, Settings, load_settings
from ringtrue.telephony.sip.account import Account


def settings(**changed: Any) -> Settings:
    environ = {f"RINGTRUE_{key}": str(value) for key, value in changed.items()}
    return load_settings(environ=environ)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_ports_and_places_are_divided_without_rest(count: int) -> None:
    whole = settings(SIP__RTP_PORT_MIN=20000, SIP__RTP_PORT_MAX=20099, SERVER__MAX_CALLS=50)
    shares = [share_of(whole, slot, count) for slot in range(count)]
    ports = [
        port
        for share in shares
        for port in range(share.sip.rtp_port_min, share.sip.rtp_port_max + 1)
    ]
    assert ports == list(range(20000, 20100))
    assert all(share.sip.rtp_port_min % 2 == 0 for share in shares)
    assert sum(share.server.max_calls for share in shares) == 50
    assert min(share.server.max_calls for share in shares) >= 50 // count


def test_engines_are_divided_as_far_as_that_goes() -> None:
    whole = settings(STT__PROCESSES=4, TTS__THREADS=2)
    for count, processes, threads in ((2, 2, 1), (4, 1, 1), (8, 1, 1)):
        share = share_of(whole, 1, count)
        assert isinstance(share.stt, PocketsphinxSettings)
        assert isinstance(share.tts, FliteSettings)
        assert (share.stt.processes, share.tts.threads) == (processes, threads)


def test_all_together_may_use_what_one_process_might() -> None:
    whole = settings(ADMISSION__CPU_SHARE=0.9, ADMISSION__MIN_CALLS=5)
    shares = [share_of(whole, slot, 3).admission for slot in range(3)]
    assert sum(share.cpu_share for share in shares) == pytest.approx(0.9)
    assert sum(share.min_calls for share in shares) <= 5


def test_too_little_for_so_many() -> None:
    few = settings(SIP__RTP_PORT_MIN=20000, SIP__RTP_PORT_MAX=20003)
    with pytest.raises(ConfigError, match="2 pairs of ports, but server.workers is 3"):
        share_of(few, 0, 3)
    with pytest.raises(ConfigError, match=r"server.max_calls is 2, but server.workers is 3"):
        share_of(settings(SERVER__MAX_CALLS=2), 0, 3)


def test_all_workers_read_each_others_tokens() -> None:
    whole = alike(settings())
    key = whole.webrtc.token_key
    assert key is not None
    assert share_of(whole, 0, 2).webrtc.token_key == key == share_of(whole, 1, 2).webrtc.token_key
    chosen = settings(WEBRTC__TOKEN_KEY="k" * 32)
    assert alike(chosen).webrtc == chosen.webrtc


def test_one_worker_registers() -> None:
    accounts = (Account(name="a", domain="x", user="u"),)
    plans = [WorkerPlan(settings(), slot, 2, 5060, 0, 8080) for slot in range(2)]
    assert plans[0].accounts(accounts) == accounts
    (held,) = plans[1].accounts(accounts)
    assert not held.register
    assert [plan.mark for plan in plans] == ["~w0", "~w1"]


def test_a_plan_survives_the_way_to_its_worker() -> None:
    plan = WorkerPlan(alike(settings(TWILIO__AUTH_TOKEN="swordfish")), 1, 2, 5060, 5061, 8080)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert "swordfish" not in repr(plan)


def test_how_many() -> None:
    assert count_of(settings()) == 1
    assert count_of(settings(SERVER__WORKERS=3)) == 3
    assert count_of(settings(SERVER__WORKERS="auto")) >= 1


@pytest.mark.parametrize("wanted", ["0", "33", "x", "-1", "1.5", "True"])
def test_how_many_there_can_not_be(wanted: str) -> None:
    with pytest.raises(SettingsError, match="must be 1 to 32, or auto"):
        settings(SERVER__WORKERS=wanted)
