"""baresip calls; the agent rings another baresip, asks it, and lets the two talk, or comes back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from speech import pause, say
from test_peers_transfer import until

from peers.baresip import Baresip, baresip, needs_baresip
from peers.compare import read_wav, write_wav
from peers.server import RunningServer, running_server

AGENT = """
name: switchboard
title: Switchboard
greeting: Hello.
transfers:
  desk: {{to: "sip:alice@127.0.0.1:{desk}", title: the desk, how: attended}}
  meeting: {{to: "sip:alice@127.0.0.1:{desk}", title: the desk, how: conference}}
transferring: {{failed: Sorry, seconds: 20, returned: Back again, follow: true}}
dialogue:
  intents:
    desk:
      examples: [get me the desk]
      answers: Fine
      action: {{transfer: desk, briefing: They are called Rivera}}
    meeting: {{examples: [let us all talk], answers: Fine, action: {{transfer: meeting}}}}
  dtmf: {{"1": desk, "2": meeting}}
  fallbacks: [Pardon]
  give_up: {{say: Goodbye}}
"""
TONE = 1020.0
QUIET = 5.0
"""Seconds for which the desk only listens, after it answered."""


def tone(seconds: float) -> npt.NDArray[np.int16]:
    """What the caller is, to be found again in what the desk hears."""
    wave = 6000 * np.sin(2 * np.pi * TONE * np.arange(int(seconds * 8000)) / 8000)
    return wave.astype(np.int16)


def tone_share(samples: npt.NDArray[np.float64]) -> float:
    """How much of it is that tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.arange(len(spectrum)) * 8000 / len(samples) - TONE) < 10
    return float(np.sum(spectrum[near]) / max(np.sum(spectrum), 1e-12))


def heard_by(peer: Baresip) -> npt.NDArray[np.float64]:
    """Its latest recording of a far end."""
    found = (peer.folder / "rec").glob("*-dec.wav")
    samples, rate = read_wav(max(found, key=lambda path: path.stat().st_mtime_ns))
    assert rate == 8000
    return np.asarray(samples, np.float64)


def settings(folder: Path, desk: Baresip) -> dict[str, str]:
    agents = folder / "agents"
    agents.mkdir()
    (agents / "switchboard.yaml").write_text(AGENT.format(desk=desk.sip_port))
    return {
        "AGENTS__DIR": str(agents),
        "AGENTS__DEFAULT": "switchboard",
        "OUTBOUND__ENABLED": "true",
        "OUTBOUND__TENANTS__DEFAULT__URIS": "sip:*@127.0.0.1:*",
        "VOICES__DIR": str(folder / "voices"),
        "AUDIT__DIR": str(folder / "audit"),
    }


def logged(server: RunningServer, event: str, times: int = 1) -> bool:
    return server.log.read_text().count(f'"event": "{event}"') >= times


def test_the_desk_is_asked_and_takes_the_caller(tmp_path: Path) -> None:
    """baresip 1.0 knows no Replaces, so the two calls are joined."""
    needs_baresip()
    words, voice = tmp_path / "words.wav", tmp_path / "voice.wav"
    talk = np.tile(say("This is the desk.", 8000, "rms"), 20)
    write_wav(words, np.concatenate([pause(QUIET), talk]), 8000)
    write_wav(voice, np.concatenate([pause(7), tone(60)]), 8000)
    with (
        baresip(tmp_path / "desk", words, "PCMU", seconds=90, account=";answermode=auto") as desk,
        running_server(tmp_path / "server", settings(tmp_path, desk)) as server,
    ):
        target = f"sip:switchboard@127.0.0.1:{server.sip_port}"
        with baresip(tmp_path / "phone", voice, "PCMU", target, seconds=80) as phone:
            until(lambda: logged(server, "dialogue.reply"), server.log)
            phone.command("sndcode", "1#")
            until(lambda: logged(server, "dialogue.reply", 3), server.log)  # it is asked
            desk.command("sndcode", "1#")
            until(lambda: logged(server, "call.transfer"), server.log)
            time.sleep(QUIET)  # they talk
            desk.command("hangup")
            records = server.wait_for_records(2)
            heard_by_desk = heard_by(desk)
        caller = next(record for record in records if record["direction"] == "inbound")
        assert caller["outcome"] == "transferred"
        assert [(t["to"], t["outcome"], t["how"]) for t in caller["transfers"]] == [
            ("desk", "transferred", "bridge")
        ]
        assert (caller["errors"], caller["refused"]) == ({}, {})
        assert np.sqrt(np.mean(heard_by(phone)[-16000:] ** 2)) > 0.01  # the desk's words
        assert tone_share(heard_by_desk[-8000:]) > 0.9  # and the caller's tone
