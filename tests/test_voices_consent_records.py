"""Records: canonical form, signatures, strict reading, scope."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.consent.errors import RecordError, SignatureError
from ringtrue.voices.consent.records import (
    ConsentArtifact,
    Scope,
    Signed,
    Withdrawal,
    read_signed,
    sha256_of,
    sign,
)
from ringtrue.voices.keys.signing import Signer, TrustedKeys

NOW = datetime(2025, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
HOUR = timedelta(hours=1)
SIGNER = Signer.generate()
TRUSTED = TrustedKeys([SIGNER.public])
SCOPE = Scope(
    tenant="acme",
    agents=("reception", "billing"),
    purposes=("reception of Example Ltd",),
    not_before=NOW,
    expires=NOW + HOUR,
)
VALUES: dict[str, Any] = {
    "serial": "0" * 32,
    "voice": "v_1",
    "voice_sha256": sha256_of(b"voiceprint"),
    "speaker": "Zoë",
    "statement_sha256": sha256_of(b"audio"),
    "transcript": "I Zoë consent",
    "scope": SCOPE,
    "asked_by": "operator-7",
    "made_at": NOW,
}
CONSENT = ConsentArtifact(**VALUES)
SIGNED = sign(CONSENT, SIGNER)
WITHDRAWN = sign(
    Withdrawal(tenant="acme", voice="v_1", asked_by="speaker", made_at=NOW, serial="1" * 32),
    SIGNER,
)


def test_the_canonical_form() -> None:
    assert CONSENT.canonical().decode() == (
        '{"asked_by":"operator-7","format":1,"made_at":"2025-03-01T12:00:00.000250Z",'
        '"scope":{"agents":["billing","reception"],"expires":"2025-03-01T13:00:00.000250Z",'
        '"not_before":"2025-03-01T12:00:00.000250Z","purposes":["reception of Example Ltd"],'
        f'"tenant":"acme"}},"serial":"{"0" * 32}","speaker":"Zoë",'
        f'"statement_sha256":"{sha256_of(b"audio")}","supersedes":null,'
        '"transcript":"I Zoë consent","type":"ringtrue/consent","voice":"v_1",'
        f'"voice_sha256":"{sha256_of(b"voiceprint")}"}}'
    )


def test_the_same_moment_and_scope_sign_the_same() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    scope = Scope(
        tenant="acme",
        agents=("billing", "reception", "billing"),
        purposes=(" reception  of Example Ltd",),
        not_before=east,
        expires=NOW + HOUR,
    )
    assert ConsentArtifact(**VALUES | {"made_at": east, "scope": scope}) == CONSENT


@pytest.mark.parametrize("signed", [SIGNED, WITHDRAWN], ids=["consent", "withdrawal"])
def test_round_trip(signed: Signed[Any]) -> None:
    read = read_signed(signed.to_json())
    assert read == signed
    assert read.verify(TRUSTED) == signed.record
    # Layout doesn't matter, content does.
    loose = json.dumps(json.loads(signed.to_json()), indent=4, ensure_ascii=True).encode()
    assert read_signed(loose) == signed


@pytest.mark.parametrize("signed", [SIGNED, WITHDRAWN], ids=["consent", "withdrawal"])
def test_no_byte_can_be_altered(signed: Signed[Any]) -> None:
    data = signed.to_json()
    passed = 0
    for place in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            altered = bytearray(data)
            altered[place] ^= flip
            try:
                record = read_signed(bytes(altered)).verify(TRUSTED)
            except (RecordError, SignatureError):
                continue
            # Another spelling of the same content: a "t" in a time, unused bits of base64.
            assert record == signed.record
            passed += 1
    assert passed < 20


def test_every_member_is_signed() -> None:
    outer = json.loads(SIGNED.to_json())
    changes: dict[str, Any] = {
        "serial": "f" * 32,
        "voice": "v_2",
        "voice_sha256": sha256_of(b"x"),
        "speaker": "Eve",
        "statement_sha256": sha256_of(b"y"),
        "transcript": "something else",
        "scope": json.loads(SIGNED.to_json())["record"]["scope"] | {"agents": ["*"]},
        "asked_by": "operator-8",
        "made_at": "2025-03-01T12:00:01Z",
        "supersedes": "a" * 32,
    }
    assert changes.keys() | {"type", "format"} == outer["record"].keys()
    for key, value in changes.items():
        altered = outer | {"record": outer["record"] | {key: value}}
        with pytest.raises(SignatureError, match="not over this record"):
            read_signed(json.dumps(altered).encode()).verify(TRUSTED)


def test_another_signer() -> None:
    with pytest.raises(SignatureError, match="unknown key"):
        SIGNED.verify(TrustedKeys([Signer.generate().public]))
    other = Signer.generate()
    claimed = Signed(CONSENT, SIGNER.id, other.sign(CONSENT.canonical()))
    with pytest.raises(SignatureError, match="not over this record"):
        claimed.verify(TRUSTED)


def test_a_withdrawal_s_signature_signs_no_consent() -> None:
    with pytest.raises(SignatureError):
        Signed(CONSENT, SIGNER.id, WITHDRAWN.signature).verify(TRUSTED)


record = json.loads(SIGNED.to_json())["record"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is JSON text"),
        (b"\xff", "is JSON text"),
        (b"[" * 100_000, "is JSON text"),
        (b"1" * 5000, "is JSON text"),
        (b"[]", "exactly the members"),
        (b'{"key":"x"}', "exactly the members"),
        (b'{"key":1,"record":{},"signature":""}', "are strings"),
        (b'{"key":"x","record":{},"signature":"?"}', "is base64"),
        (b'{"key":"x","record":[],"signature":""}', "not a consent or withdrawal"),
        (b'{"key":"x","record":{"type":"other"},"signature":""}', "not a consent or withdrawal"),
        (b" " * 300_000, "300000 bytes; allowed: 262144"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_record(data: bytes, complaint: str) -> None:
    with pytest.raises(RecordError, match=complaint):
        read_signed(data)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"extra": 1}, "extra: Extra inputs"),
        ({"serial": "xyz"}, "serial: String should match"),
        ({"format": 2}, "format"),
        ({"made_at": "2025-03-01T12:00:00"}, "made_at: .*timezone"),
        ({"made_at": 17}, "made_at"),
        ({"speaker": "\ud800"}, "not a consent or withdrawal"),
        ({"scope": record["scope"] | {"agents": []}}, "scope.agents: .*at least 1"),
        ({"scope": record["scope"] | {"purposes": [""]}}, "purpose has 0 characters"),
        ({"scope": record["scope"] | {"expires": record["made_at"]}}, "must be after not_before"),
    ],
)
def test_strict_reading(change: dict[str, Any], complaint: str) -> None:
    data = {"key": "x", "record": record | change, "signature": ""}
    with pytest.raises(RecordError, match=complaint) as caught:
        read_signed(json.dumps(data).encode())
    assert "Zoë" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.sampled_from(sorted(record)), json_values)
def test_any_value_of_any_member_is_read_or_refused(member: str, value: Any) -> None:
    data = {"key": "x", "record": record | {member: value}, "signature": ""}
    with contextlib.suppress(RecordError):
        read_signed(json.dumps(data).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        read_signed(data)


def test_records_do_not_change_or_print_words() -> None:
    with pytest.raises(ValidationError):
        CONSENT.voice = "v_2"  # type: ignore[misc]
    assert "Zoë" not in repr(SIGNED)
    with pytest.raises(ValidationError) as caught:
        ConsentArtifact(**VALUES | {"speaker": "Very Secret Name" * 10})
    assert "Very Secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({}, Reason.COVERED),
        ({"purpose": "RECEPTION of  example ltd"}, Reason.COVERED),
        ({"agent": "billing"}, Reason.COVERED),
        ({"now": NOW + HOUR - timedelta(microseconds=1)}, Reason.COVERED),
        ({"tenant": "evil"}, Reason.TENANT),
        ({"tenant": "ACME"}, Reason.TENANT),
        ({"agent": "sales"}, Reason.AGENT),
        ({"agent": "*"}, Reason.AGENT),
        ({"agent": ""}, Reason.AGENT),
        ({"purpose": "reception"}, Reason.PURPOSE),
        ({"purpose": ""}, Reason.PURPOSE),
        ({"purpose": "*"}, Reason.PURPOSE),
        ({"now": NOW - timedelta(microseconds=1)}, Reason.NOT_YET),
        ({"now": NOW + HOUR}, Reason.EXPIRED),
    ],
)
def test_what_a_consent_covers(question: dict[str, Any], reason: Reason) -> None:
    asked = {
        "tenant": "acme",
        "agent": "reception",
        "purpose": "reception of Example Ltd",
        "now": NOW,
    }
    decision = CONSENT.covers(**asked | question)
    assert (decision.reason, decision.serial) == (reason, CONSENT.serial)
    assert decision.allowed == (reason is Reason.COVERED)
    assert decision.until == (NOW + HOUR if decision.allowed else None)


def test_a_consent_for_every_agent() -> None:
    scope = SCOPE.model_copy(update={"agents": ("*",)})
    consent = CONSENT.model_copy(update={"scope": scope})
    for agent in ("reception", "anything"):
        assert consent.covers("acme", agent, "reception of Example Ltd", NOW).allowed
    assert not consent.covers("evil", "reception", "reception of Example Ltd", NOW).allowed
