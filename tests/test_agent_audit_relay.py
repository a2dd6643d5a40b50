"""What the audit log has of a call in which people in other calls were heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gates import SPEECH, Voice, make
from test_agent_audit_evidence import CALL, Kept, bad, bundled, checked, resealed, written

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.trail import CallTrail, Speaker
from ringtrue.streaming.gate import Draft, Gate, UtteranceDigest
from ringtrue.streaming.record import CallRecord


class There:
    """The far end of another call."""

    call = "call-other"

    def live(self, now: float) -> bool:
        return True


def bridged_call() -> list[Event]:
    """It speaks, passes people on, speaks over them, and passes them on again."""
    kept, digests = Kept(), list[UtteranceDigest]()
    trail = CallTrail(
        kept,
        CallRecord(CALL, "sip", "inbound", "reception", 8000, 0.0),
        tenant="acme",
        stock=Speaker("slt", "flite"),
    )
    gate = make(call_id=CALL, digests=digests)
    relay = gate.provenance.relay()

    def people(gate: Gate, frames: int, draft: Draft) -> None:
        for number in range(frames):
            pcm = np.full(160, number, "<i2").tobytes()
            gate.admit(draft if number == 0 else Draft(), 0.0, relay.seal(pcm, 0.0, There()))

    gate.admit(Voice(gate).says(SPEECH), 0.0)
    gate.end_utterance()
    people(gate, 3, Draft())
    people(gate, 1, Voice(gate).says(SPEECH))
    gate.end_utterance()
    people(gate, 2, Draft())
    gate.close()
    for digest in digests:
        trail.digested(digest)
        trail.stopped()
    trail._record.outcome = "transferred"
    trail.close()
    return kept.events


def test_what_was_made_here_and_what_was_passed_on_are_told_apart() -> None:
    events = bridged_call()
    assert [event.kind for event in events] == [
        Kind.CALL_STARTED,
        Kind.UTTERANCE,
        Kind.RELAYED,
        Kind.UTTERANCE,
        Kind.RELAYED,
        Kind.CALL_ENDED,
    ]
    _, first, passed_on, both, _, ended = events
    assert "with" not in first.detail
    assert both.detail["with"] == "call-other"
    assert both.voice == "slt"
    assert passed_on.detail["from"] == "call-other"
    assert (passed_on.voice, passed_on.engine, passed_on.watermark, passed_on.text) == (
        None,
        None,
        None,
        None,
    )
    assert passed_on.output is not None
    assert passed_on.output.samples == 3 * 160
    assert ended.detail["utterances"] == 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory: Path = tmp_path_factory.mktemp("relay") / "audit"
    written(directory, bridged_call())
    return bundled(directory, consents=[])


def test_its_evidence_holds(files: dict[str, bytes]) -> None:
    assert bad(checked(files)) == []


def test_what_was_passed_on_cannot_be_left_out_either(files: dict[str, bytes]) -> None:
    lines = files["entries.jsonl"].splitlines(keepends=True)
    left = [line for line in lines if b"call-other" not in line or b"call.relayed" not in line]
    assert len(left) == len(lines) - 2
    report = checked(resealed(files | {"entries.jsonl": b"".join(left)}))
    assert any("utterance before entry" in what for what in bad(report)), bad(report)
