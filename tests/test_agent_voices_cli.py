"""``ringtrue voices`` and ``ringtrue say`` on a blank machine: a real library, a humming engine."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Ran, restored_logs, run_command
from enrolment_desk import ENGINE, NAME, NOISY, PURPOSE, HumEngine, ScriptedDesk

from ringtrue.agent import microphone, voice_library, voices_cli_audit, voices_cli_enrol
from ringtrue.config.settings import load_settings
from ringtrue.voices.consent.records import is_consent, is_withdrawal, read_signed
from ringtrue.voices.enrolment.audition import LIKENESS, kept
from ringtrue.voices.enrolment.errors import EnrolmentRefused
from ringtrue.voices.keys.signing import TrustedKeys
from ringtrue.voices.library import utc_now
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.keyring import load_mark_keys

WHO = ("--name", NAME, "--purpose", PURPOSE)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("RINGTRUE_VOICES__DIR", str(tmp_path / "voices"))
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {ENGINE: HumEngine()})
    monkeypatch.setattr(voices_cli_enrol, "COUNTDOWN", 0)
    with restored_logs():
        yield tmp_path


@pytest.fixture
def desks(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedDesk]:
    """Every desk a command opened; the outcome of ``desks.outcome`` where one is set."""
    made: list[ScriptedDesk] = []

    def desk(library: Any) -> ScriptedDesk:
        made.append(ScriptedDesk(library, outcome=OUTCOME.get("is")))
        return made[-1]

    monkeypatch.setattr(voices_cli_enrol, "enrolment_desk", desk)
    OUTCOME.clear()
    return made


OUTCOME: dict[str, Exception] = {}


def ringtrue(*arguments: object, stdin: str = "") -> Ran:
    return run_command(*arguments, stdin=stdin)


def files(home: Path) -> tuple[Path, Path]:
    statement, speech = home / "statement.wav", home / "speech.wav"
    statement.write_bytes(b"RIFF statement")
    speech.write_bytes(b"RIFF speech")
    return statement, speech


def enrolled(home: Path, *more: object) -> dict[str, Any]:
    """A voice by the two-step flow."""
    challenge = ringtrue("voices", "challenge", *WHO, "--json").json()
    statement, speech = files(home)
    ran = ringtrue(
        "voices", "enrol", *WHO, "--engine", ENGINE, "--challenge", challenge["token"],
        "--statement", statement, "--speech", speech, "--json", *more,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.json()
    return found


def test_a_blank_machine_enrols_in_two_steps(home: Path, desks: list[ScriptedDesk]) -> None:
    issued = ringtrue("voices", "challenge", *WHO, "--json")
    assert "master_key_made" in issued.err
    challenge = issued.json()
    assert challenge["text"] == f"{challenge['statement']} {challenge['phrase']}."
    assert NAME in challenge["statement"]
    found = enrolled(home)
    assert (found["name"], found["similarity"]) == (NAME, 0.87)
    assert found["findings"][0]["passed"] is True
    assert desks[-1].recordings == [(b"RIFF statement", b"RIFF speech")]
    for path in (home / "voices").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (home / "voices" / "keys" / "master.keys").exists()

    listed = ringtrue("voices", "list", "--json").json()["voices"]
    assert [(item["id"], item["state"]) for item in listed] == [(found["voice"], "live")]
    assert NAME in ringtrue("voices", "list").out
    shown = ringtrue("voices", "show", NAME.lower(), "--json").json()
    assert shown["id"] == found["voice"]
    assert shown["consents"][0]["status"] == "live"
    assert "live" in ringtrue("voices", "show", NAME).out
    assert ringtrue("voices", "list", "--tenant", "globex", "--json").json() == {"voices": []}
    assert ringtrue("voices", "show", found["voice"], "--tenant", "globex").code == 2


def test_the_microphone_is_recorded_after_the_challenge_is_shown(
    monkeypatch: pytest.MonkeyPatch, desks: list[ScriptedDesk]
) -> None:
    code = "import sys\nwhile 1: sys.stdout.buffer.write(b'\\x00\\x10' * 4800)"
    monkeypatch.setattr(microphone, "RECORDERS", ((sys.executable, "-S", "-c", code),))
    ran = ringtrue("voices", "enrol", *WHO, "--engine", ENGINE, "--seconds", 6)
    assert ran.code == 0, ran.err
    assert f"I, {NAME}, consent to the cloning of my voice" in " ".join(
        re.sub(r"[│\s]+", " ", ran.err).split()
    )
    assert f"{NAME} is enrolled" in ran.err
    ((statement, speech),) = desks[-1].recordings
    with wave.open(io.BytesIO(speech)) as file:
        assert file.getnframes() == 6 * 48000
    with wave.open(io.BytesIO(statement)) as file:
        assert file.getnframes() > 8 * 48000


def test_a_machine_without_a_microphone_is_told_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, desks: list[ScriptedDesk], home: Path
) -> None:
    monkeypatch.setattr(microphone, "RECORDERS", (("no-such-recorder",),))
    ran = ringtrue("voices", "enrol", *WHO, "--engine", ENGINE)
    assert ran.code == 2
    assert "nothing to record with is installed" in ran.err
    assert not (home / "voices").exists()


def test_a_refusal_is_an_answer(home: Path, desks: list[ScriptedDesk]) -> None:
    OUTCOME["is"] = EnrolmentRefused([NOISY])
    challenge = ringtrue("voices", "challenge", *WHO, "--json").json()
    statement, speech = files(home)
    arguments = (
        "voices", "enrol", *WHO, "--engine", ENGINE, "--challenge", challenge["token"],
        "--statement", statement, "--speech", speech,
    )  # fmt: skip
    ran = ringtrue(*arguments, "--json")
    assert ran.code == 1
    told = ran.json()
    assert told["refused"] == NOISY.message
    assert [item["check"] for item in told["findings"]] == ["noise"]
    # Used up: the second attempt is refused for that.
    ran = ringtrue(*arguments, "--json")
    assert (ran.code, ran.json()["challenge"]) == (1, "used")
    ran = ringtrue(*arguments)
    assert ran.code == 1
    assert "the challenge was used before" in ran.err
    assert ringtrue("voices", "list", "--json").json() == {"voices": []}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--statement", "{statement}"), "--statement needs --challenge"),
        (("--challenge", "x"), "--challenge needs --statement"),
        (("--challenge", "x", "--statement", "{statement}", "--speech", "{speech}",
          "--engine", "nope"), "engine 'nope'; allowed: hum-1"),
        (("--speech", "{home}/absent.wav"), "does not exist"),
        (("--seconds", "3"), "5"),
    ],
)  # fmt: skip
def test_options_that_can_not_work_are_refused_at_once(
    home: Path, desks: list[ScriptedDesk], more: tuple[str, ...], says: str
) -> None:
    statement, speech = files(home)
    given = [item.format(statement=statement, speech=speech, home=home) for item in more]
    ran = ringtrue("voices", "enrol", *WHO, *given)
    assert ran.code == 2
    assert says in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("name", "says"),
    [("slt", "stock voice"), (" ", "0 characters"), ("x" * 81, "81 characters")],
)
def test_a_name_no_voice_can_have(desks: list[ScriptedDesk], name: str, says: str) -> None:
    ran = ringtrue("voices", "challenge", "--name", name, "--purpose", PURPOSE)
    assert ran.code == 2
    assert says in ran.err


def test_say_streams_and_writes_files(home: Path, desks: list[ScriptedDesk]) -> None:
    enrolled(home)
    out = home / "out.wav"
    said = ringtrue("say", "Hello there.", "--voice", NAME, "-o", out, "--json")
    assert (said.code, said.json()["out"]) == (0, str(out))
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 1600)
    piped = ringtrue("say", "-", "--voice", NAME, "-o", "-", "--rate", 8000, stdin="Hello.\n")
    assert piped.code == 0
    assert piped.raw[:4] == b"RIFF"
    assert piped.raw[24:28] == (8000).to_bytes(4, "little")
    assert len(piped.raw) == 44 + 2 * 800
    assert ringtrue("say", "x", "--voice", NAME, "--rate", 44100, "-o", out).code == 2
    empty = ringtrue("say", " ... ", "--voice", NAME, "-o", out)
    assert (empty.code, "at least one word" in empty.err) == (2, True)


def marked(pcm: bytes, rate: int, home: Path) -> float:
    """How sure it is that this installation's mark is in ``pcm``; 0 for not at all."""
    keys = load_mark_keys(home / "voices" / "keys" / "watermark.keys")
    found = detect(np.frombuffer(pcm, "<i2"), rate, keys.detection)
    return 0.0 if found is None else found.significance


def test_what_is_said_is_marked(home: Path, desks: list[ScriptedDesk]) -> None:
    enrolled(home)
    out = home / "out.wav"
    said = ringtrue("say", "Good morning, what can I do for you?", "--voice", "slt", "-o", out)
    assert said.code == 0, said.err
    with wave.open(str(out)) as file:
        stock = file.readframes(file.getnframes())
    assert marked(stock, 16000, home) > 10
    # A hum of one pitch hides little; but it hides it in every sentence.
    text = " ".join(f"Number {number}." for number in range(60))
    piped = ringtrue("say", text, "--voice", NAME, "-o", "-", "--rate", 8000)
    assert piped.code == 0, piped.err
    assert marked(piped.raw[44:], 8000, home) > 10


def test_play_goes_to_the_loudspeaker(
    home: Path, desks: list[ScriptedDesk], monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(home)
    got = home / "played.wav"
    copy = f"import sys; open({str(got)!r},'wb').write(sys.stdin.buffer.read())"
    monkeypatch.setattr(microphone, "PLAYERS", ((sys.executable, "-S", "-c", copy),))
    ran = ringtrue("voices", "play", NAME, "--json")
    assert ran.code == 0, ran.err
    assert got.read_bytes()[:4] == b"RIFF"
    assert len(got.read_bytes()) == 44 + 2 * round(16000 * ran.json()["seconds"])


def test_no_consent_no_sound_and_no_file(home: Path, desks: list[ScriptedDesk]) -> None:
    voice = enrolled(home, "--agent", "reception")["voice"]
    out = home / "out.wav"
    hello = ("say", "Hello.", "--voice", voice, "-o", out)
    assert ringtrue(*hello, "--agent", "reception").code == 0
    out.unlink()
    for more, reason in [
        ((), "agent"),
        (("--agent", "reception", "--purpose", "advertising"), "purpose"),
    ]:
        ran = ringtrue(*hello, *more, "--json")
        assert (ran.code, ran.json()["refused"]) == (1, reason)
        assert not out.exists()
    serial = ringtrue("voices", "show", voice, "--json").json()["consents"][0]["serial"]
    withdrawn = ringtrue("voices", "withdraw", voice, "--consent", serial, "--json").json()
    assert withdrawn["consent"] == serial
    ran = ringtrue(*hello, "--agent", "reception", "--purpose", PURPOSE, "--json")
    assert (ran.code, ran.json()["refused"]) == (1, "withdrawn")
    assert ringtrue(*hello, "--agent", "reception").code == 1
    assert not list(home.glob("*out.wav*"))


def test_renew_export_and_erase(home: Path, desks: list[ScriptedDesk]) -> None:
    voice = enrolled(home)["voice"]
    assert ringtrue("voices", "withdraw", NAME).code == 0
    challenge = ringtrue("voices", "challenge", "--name", NAME, "--purpose", "sales", "--json")
    statement, _ = files(home)
    renewed = ringtrue(
        "voices", "renew", NAME, "--purpose", "sales", "--challenge", challenge.json()["token"],
        "--statement", statement, "--expires-days", 2, "--json",
    )  # fmt: skip
    assert renewed.code == 0, renewed.err
    assert renewed.json()["voice"] == voice
    exported = home / "consent.json"
    assert ringtrue("voices", "export-consent", NAME, "-o", exported).code == 0
    document = json.loads(exported.read_bytes())
    assert ringtrue("voices", "export-consent", voice, "--json").json() == document
    trusted = TrustedKeys(bytes.fromhex(key) for key in document["keys"].values())
    consents = [read_signed(json.dumps(item).encode()) for item in document["consents"]]
    withdrawals = [read_signed(json.dumps(item).encode()) for item in document["withdrawals"]]
    assert [is_consent(item) and bool(item.verify(trusted)) for item in consents] == [True] * 2
    assert [is_withdrawal(item) and bool(item.verify(trusted)) for item in withdrawals] == [True]

    refused = ringtrue("voices", "erase", voice, stdin="n\n")
    assert refused.code == 1
    assert ringtrue("voices", "show", voice).code == 0
    erased = ringtrue("voices", "erase", NAME, "--yes", "--json").json()
    assert erased["id"] == voice
    gone = ringtrue("voices", "show", voice)
    assert (gone.code, "was erased" in gone.err) == (2, True)


def test_the_master_key_is_changed_in_three_steps(home: Path, desks: list[ScriptedDesk]) -> None:
    enrolled(home)
    added = ringtrue("voices", "rewrap-keys", "--add", "--json").json()
    done = ringtrue("voices", "rewrap-keys", "--json").json()
    assert (done["current"], done["rewrapped"], done["unreadable"]) == (added["current"], 1, [])
    (old,) = done["older"]
    again = ringtrue("voices", "rewrap-keys", "--retire", "--json").json()
    assert (again["rewrapped"], again["retired"], again["older"]) == (0, [old], [])
    assert old not in (home / "voices" / "keys" / "master.keys").read_text()
    assert ringtrue("say", "Hello.", "--voice", NAME, "-o", home / "out.wav").code == 0
    assert ringtrue("voices", "rewrap-keys", "--add", "--retire").code == 2


def test_an_audit_re_scores_what_may_speak(home: Path, desks: list[ScriptedDesk]) -> None:
    enrolled(home)
    ran = ringtrue("voices", "audit", "--json")
    (found,) = ran.json()["voices"]
    # A hum is nobody's voice.
    assert (ran.code, found["passed"], found["name"]) == (1, False, NAME)
    assert found["problems"]
    ringtrue("voices", "withdraw", NAME)
    assert ringtrue("voices", "audit", "--json").json()["voices"] == []


def test_an_audit_compares_with_the_enrolment(
    home: Path, desks: list[ScriptedDesk], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice, figure = enrolled(home)["voice"], 0.6

    async def likeness(*_: object) -> float:
        return figure

    def keep(value: float) -> None:
        async def work() -> None:
            async with voice_library.open_voices(load_settings()) as library:
                voices = library.store.voices
                await voices.put_blob("default", voice, LIKENESS, kept(value), utc_now())

        asyncio.run(work())

    monkeypatch.setattr(voices_cli_audit, "likeness", likeness)
    ran = ringtrue("voices", "audit", "--json")
    (found,) = ran.json()["voices"]
    assert (ran.code, found["likeness"], found["enrolled"]) == (1, figure, None)
    assert "is under 0.700" in found["problems"][0]
    assert ringtrue("voices", "audit", "--floor", 0.5).code == 0
    # With a figure of its own it may be low, but it may not fall.
    keep(figure + 0.01)
    assert ringtrue("voices", "audit").code == 0
    keep(figure + 0.1)
    ran = ringtrue("voices", "audit", "--json")
    (found,) = ran.json()["voices"]
    assert (ran.code, found["enrolled"]) == (1, pytest.approx(figure + 0.1, abs=1e-3))
    assert "it was enrolled with" in found["problems"][0]


def test_help_names_every_command() -> None:
    said = ringtrue("voices", "--help").out
    for command in (
        "enrol", "challenge", "list", "show", "play", "renew", "withdraw", "erase",
        "export-consent", "audit", "rewrap-keys",
    ):  # fmt: skip
        assert command in said
        assert ringtrue("voices", command, "--help").code == 0
        assert "--json" in ringtrue("voices", command, "--help").out
