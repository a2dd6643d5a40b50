"""What an incident keeps of the audit log, and what it finds there."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import KEYS, add, entries, kinds, moment, opened

from ringtrue.agent.audit.affected import affected_by
from ringtrue.agent.audit.entries import Event, Kind, Output
from ringtrue.agent.audit.holds import (
    Hold,
    keeper_of,
    kept_from,
    read_holds,
    release_hold,
    settled,
    write_hold,
)
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.audit.writer import LogWriter, WriterPolicy

INCIDENT = "inc_0123456789abcdef"
VOICE = "v_" + "a" * 32


def spoken(number: int, call: str, **more: object) -> Event:
    output = Output(f"{number:064x}", "c" * 64, 4000, 8000, 0, 24)
    fields = {"tenant": "acme", "voice": VOICE, "agent": "desk", "consent": "c" * 32} | more
    return Event(Kind.UTTERANCE, call=call, output=output, watermark="rt1:1:2", **fields)  # type: ignore[arg-type]


def pruned(writer: LogWriter, seconds: float) -> list[str]:
    writer._pruned_at = None
    writer.tidy(moment(seconds))
    return sorted(path.name for path in writer.slot.glob("0*.jsonl"))


def test_a_hold_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_holds(tmp_path) == ()
    write_hold(tmp_path, Hold(INCIDENT, {"w00": 0}))
    write_hold(tmp_path, Hold(INCIDENT, {"w00": 7, "w01": 3}))
    assert read_holds(tmp_path) == (Hold(INCIDENT, {"w00": 7, "w01": 3}),)
    write_hold(tmp_path, Hold(INCIDENT.replace("0", "1"), {"w00": 5, "w01": 9}))
    assert [kept_from(tmp_path / slot) for slot in ("w00", "w01", "w02")] == [5, 3, 0]
    assert release_hold(tmp_path, INCIDENT)
    assert not release_hold(tmp_path, INCIDENT)
    assert kept_from(tmp_path / "w01") == 9
    with pytest.raises(ValueError, match="no incident's id"):
        write_hold(tmp_path, Hold("../x", {}))


def test_a_hold_waits_for_who_is_deleting(tmp_path: Path) -> None:
    written = threading.Event()

    def freeze() -> None:
        write_hold(tmp_path, Hold(INCIDENT, {}, frozenset({"call-1"})))
        written.set()

    with settled(tmp_path), settled(tmp_path):
        thread = threading.Thread(target=freeze)
        thread.start()
        assert not written.wait(0.05)
        assert read_holds(tmp_path) == ()  # so it may be deleted; the hold comes after
    thread.join(10)
    assert written.is_set()
    holds = read_holds(tmp_path)
    assert (keeper_of(holds, "call-1"), keeper_of(holds, "call-2")) == (INCIDENT, None)


def test_a_damaged_hold_keeps_everything(tmp_path: Path) -> None:
    write_hold(tmp_path, Hold(INCIDENT, {"w00": 7}))
    (tmp_path / "holds" / f"{INCIDENT}.json").write_text("{")
    assert kept_from(tmp_path / "w00") == 0
    assert keeper_of(read_holds(tmp_path), "call-1") == INCIDENT


def test_retention_leaves_what_is_held(tmp_path: Path) -> None:
    policy = WriterPolicy(keep=timedelta(seconds=60))
    writer = opened(tmp_path, policy=policy)
    for number in range(4):  # entries 1 to 4, each in a segment of its own
        add(writer, [spoken(number, f"call-{number}")], number)
        writer.rotate(moment(number))
    write_hold(tmp_path, Hold(INCIDENT, {"w00": 3}))
    names = pruned(writer, 1000)
    assert names[0] == f"{3:016d}.jsonl"
    assert [entry["seq"] for entry in entries(tmp_path)][:2] == [3, 4]
    assert kinds(tmp_path)[-1] == "log.retention"
    assert verify(tmp_path, KEYS, live=True).problems == []
    assert pruned(writer, 2000) == names  # nothing more, however old
    release_hold(tmp_path, INCIDENT)
    assert pruned(writer, 3000)[0] > names[1]
    writer.close(moment(3001))
    assert verify(tmp_path, KEYS).problems == []


def test_what_a_voice_said_is_found(tmp_path: Path) -> None:
    writer, other = opened(tmp_path), opened(tmp_path)
    add(writer, [Event(Kind.CONSENT_GIVEN, tenant="acme", voice=VOICE)], 1)
    add(writer, [spoken(1, "call-1"), spoken(2, "call-2")], 10)
    ended = Event(Kind.CALL_ENDED, tenant="acme", call="call-1")
    add(writer, [spoken(3, "call-1"), ended], 20)
    add(writer, [Event(Kind.VOICE_REVOKED, tenant="acme", call="call-2", voice=VOICE)], 21)
    add(writer, [spoken(4, "call-9", voice="slt"), spoken(5, "call-8", tenant="else")], 22)
    add(other, [spoken(6, "said-1", requester="api-key:1")], 15)
    for one in (writer, other):
        one.close(moment(30))
    found = affected_by(tmp_path, "acme", VOICE)
    assert [call.call for call in found.calls] == ["call-1", "call-2", "said-1"]
    first, second, third = found.calls
    assert (first.utterances, first.seconds, first.ended, first.revoked) == (2, 1.0, True, False)
    assert (second.ended, second.revoked) == (False, True)
    assert third.requester == "api-key:1"
    assert [output.sha256[-1] for output in first.outputs] == ["1", "3"]
    assert first.outputs[0].log.startswith("w00 ")
    assert (found.utterances, found.seconds, found.listed) == (4, 2.0, 4)
    assert found.first == {"w00": 1, "w01": 1}
    late = affected_by(tmp_path, "acme", VOICE, since=moment(12))
    assert [(call.call, call.utterances) for call in late.calls] == [("said-1", 1), ("call-1", 1)]
    assert late.first == found.first
    assert affected_by(tmp_path, "else", "v_" + "b" * 32).calls == ()
