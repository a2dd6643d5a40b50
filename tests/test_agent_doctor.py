"""The doctor finds what is there, what is not, and names cost and remedy."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ringtrue.agent.doctor import report, run_checks, show, to_json, worst
from ringtrue.agent.findings import Check, State
from ringtrue.config.settings import Settings, load_settings
from ringtrue.telephony.codecs.opus_library import CodecUnavailableError


def settings(**environ: str) -> Settings:
    base = {
        "RINGTRUE_SIP__PORT": "0",
        "RINGTRUE_HTTP__PORT": "0",
        "RINGTRUE_SIP__HOST": "127.0.0.1",
    }
    return load_settings(environ=base | {f"RINGTRUE_{k}": v for k, v in environ.items()})


def find(checks: list[Check], name: str) -> Check:
    (found,) = (check for check in checks if check.name == name)
    return found


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return run_checks(settings())


def test_this_machine_can_run_the_defaults(checks: list[Check]) -> None:
    assert [c for c in checks if c.state is State.MISSING] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("python", "3."),
        ("uvloop", "0."),
        ("speech", "voices slt, awb, rms"),
        ("recognizer", "pocketsphinx 5"),
        ("language", "embedded dialogue"),
        ("voice activity", "silero"),
        ("turn detection", "smart-turn"),
        ("codec g722", "PyAV"),
        ("codec opus", "libopus 1."),
        ("srtp", "offer: AES_CM_128_HMAC_SHA1_80"),
        ("agents", "reception"),
        ("port sip udp", "is free"),
        ("port http", "is free"),
        ("rtp ports", "500 calls"),
        ("twilio", "off"),
    ],
)
def test_what_is_found_is_said(checks: list[Check], name: str, words: str) -> None:
    assert words in find(checks, name).detail


def test_whatever_is_not_ok_names_cost_and_remedy(checks: list[Check]) -> None:
    for check in [*checks, *run_checks(settings(TURNS__SMART_TURN="false"))]:
        if check.state is not State.OK:
            assert check.cost, check
            assert check.remedy, check


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_that_is_taken(taken: int) -> None:
    found = run_checks(settings(SIP__PORT=str(taken), SIP__UDP="false"))
    check = find(found, "port sip tcp")
    assert check.state is State.MISSING
    assert f"127.0.0.1:{taken}" in check.detail
    assert "in use" in check.detail
    assert worst(found) is State.MISSING


def cut(name: str, **environ: str) -> Check:
    return find(run_checks(settings(**environ)), name)


@pytest.mark.parametrize(
    ("name", "environ", "state", "words"),
    [
        ("language", {"LLM__ENGINE": "openai", "LLM__MODEL": "m"}, State.MISSING, "without an API"),
        (
            "language",
            {"LLM__ENGINE": "openai", "LLM__MODEL": "m", "LLM__BASE_URL": "http://127.0.0.1:9/v1"},
            State.OK,
            "m at http://127.0.0.1:9/v1",
        ),
        (
            "recognizer",
            {"STT__ENGINE": "whisper", "STT__MODEL": "/nowhere/tiny"},
            State.MISSING,
            "/nowhere/tiny",
        ),
        ("recognizer", {"STT__MODEL": "lm", "STT__FILE": "/nowhere/x.lm"}, State.MISSING, "x.lm"),
        ("gpu", {"STT__ENGINE": "whisper", "STT__MODEL": "/nowhere/m"}, State.DEGRADED, "none"),
        ("agents", {"AGENTS__DEFAULT": "nobody"}, State.MISSING, "no agent nobody; there are:"),
        ("rtp ports", {"SIP__RTP_PORT_MAX": "20009"}, State.DEGRADED, "5 calls"),
        ("srtp", {"MEDIA__SRTP": "require"}, State.DEGRADED, "require: AES"),
        ("srtp", {"MEDIA__SRTP": "off"}, State.OK, "off"),
        ("records", {"RECORDS__DIR": "/proc/version/x"}, State.MISSING, "not a writable"),
        (
            "twilio",
            {"TWILIO__ENABLED": "true", "TWILIO__AUTH_TOKEN": "t"},
            State.DEGRADED,
            "public",
        ),
        ("turn detection", {"TURNS__SMART_TURN": "false"}, State.DEGRADED, "is off"),
        ("webrtc", {"WEBRTC__ENABLED": "false"}, State.OK, "off"),
        ("open files", {"SERVER__MAX_CALLS": "10000"}, State.DEGRADED, "limit"),
        (
            "recognizer",
            {"STT__ENGINE": "pipecat", "STT__SERVICE": "no.such.Service"},
            State.MISSING,
            "no.such.Service",
        ),
    ],
)
def test_settings_that_can_t_be_met(
    monkeypatch: pytest.MonkeyPatch, name: str, environ: dict[str, str], state: State, words: str
) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    check = cut(name, **environ)
    assert check.state is state
    assert words in check.detail


def test_libraries_elsewhere_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libflite.so.1").write_bytes(b"not a library")
    check = cut("speech", PATHS__LIBRARIES=str(tmp_path))
    assert check.state is State.MISSING
    assert str(tmp_path) in check.detail
    assert "libflite1" in check.remedy


def test_peers_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    check = cut("test peer sipp")
    assert check.state is State.DEGRADED
    assert check.remedy == "apt-get install sip-tester"


def test_opus_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise CodecUnavailableError("can't load libopus (nowhere)")

    monkeypatch.setattr("ringtrue.agent.doctor_media.opus_library", nowhere)
    assert cut("codec opus").state is State.MISSING
    without = cut("codec opus", SIP__CODECS="PCMU")
    assert without.state is State.DEGRADED
    assert "libopus0" in without.remedy


def test_a_check_that_breaks_is_a_finding() -> None:
    def explode(_: Any) -> Check:
        raise RuntimeError("broken")

    check = find(run_checks(settings(), [explode]), "explode")
    assert check.state is State.MISSING
    assert "RuntimeError: broken" in check.detail


def test_no_secret_is_shown() -> None:
    found = run_checks(
        settings(
            TWILIO__ENABLED="true",
            TWILIO__AUTH_TOKEN="hunter2",
            LLM__ENGINE="openai",
            LLM__MODEL="m",
            LLM__API_KEY="hunter2",
        )
    )
    assert "hunter2" not in to_json(found)


def test_output_as_json_and_as_a_table(checks: list[Check]) -> None:
    parsed = json.loads(to_json(checks))
    assert [item["name"] for item in parsed] == [check.name for check in checks]
    assert set(parsed[0]) == {"name", "state", "detail", "cost", "remedy"}
    out = io.StringIO()
    show(checks, Console(file=out, width=200))
    for check in checks:
        assert check.name in out.getvalue()


def test_the_worst_state() -> None:
    ok, less = Check("a", State.OK, ""), Check("b", State.DEGRADED, "")
    assert worst([]) is State.OK
    assert worst([ok, less]) is State.DEGRADED


def test_the_report_s_status_and_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(settings(), as_json=True) == 0
    assert {item["name"] for item in json.loads(capsys.readouterr().out)} >= {"speech", "python"}
    assert report(settings(AGENTS__DEFAULT="nobody")) == 1
    assert "nobody" in capsys.readouterr().out
