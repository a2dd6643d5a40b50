"""Evidence: a call's bundle holds on its own, and nothing in it can be changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from audit_logs import KEYS, SECRET, SIGNER, moment, said, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.errors import AuditError, LogBrokenError, NoSuchCallError
from ringtrue.agent.audit.evidence import bundle_files, revealed, write_bundle
from ringtrue.agent.audit.published import BundleReport, VerificationError, check_bundle, main
from ringtrue.agent.audit.searching import prove_call
from ringtrue.agent.audit.segments import segments_of
from ringtrue.agent.audit.texts import TextKeeper, TextPolicy
from ringtrue.agent.audit.trail import CallTrail, Speaker
from ringtrue.agent.audit.writer import LogWriter, Pending, WriterPolicy
from ringtrue.streaming.gate import UtteranceDigest
from ringtrue.streaming.record import CallRecord
from ringtrue.voices.consent.records import ConsentArtifact, Scope, sha256_of, sign
from ringtrue.voices.keys.signing import Signer

CALL = "call-1"
CONSENTS = Signer.generate()


def consent(voice: str) -> tuple[ConsentArtifact, bytes]:
    artifact = ConsentArtifact(
        voice=voice,
        voice_sha256=sha256_of(b"voiceprint"),
        speaker="Ada",
        statement_sha256=sha256_of(b"audio"),
        transcript="I Ada consent",
        scope=Scope(
            tenant="acme",
            agents=("*",),
            purposes=("reception",),
            not_before=moment(-100),
            expires=moment(0) + timedelta(days=9),
        ),
        asked_by="operator",
        made_at=moment(-100),
    )
    document = {
        "format": 1,
        "tenant": "acme",
        "voice": voice,
        "consents": [json.loads(sign(artifact, CONSENTS).to_json())],
        "withdrawals": [],
        "keys": {CONSENTS.id: CONSENTS.public.hex()},
    }
    return artifact, json.dumps(document).encode()


ARTIFACT, DOCUMENT = consent("v_1")


class Kept:
    """A recorder that keeps."""

    writable = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


def spoken_call(call: str = CALL, utterances: int = 3) -> list[Event]:
    """What a call in a cloned voice leaves, by the real trail and the gate's own arithmetic."""
    kept = Kept()
    record = CallRecord(call, "sip", "inbound", "reception", 8000, 1.0)
    trail = CallTrail(
        kept,
        record,
        tenant="acme",
        stock=Speaker("slt", "flite"),
        cloned=Speaker("v_1", "embedded-1", "2"),
    )
    chain = hashlib.sha256(call.encode()).digest()
    for number in range(1, utterances + 1):
        pcm = hashlib.sha256(str(number).encode()).digest()
        by = f"\nv_1\n{ARTIFACT.serial}".encode()
        chain = hashlib.sha256(chain + pcm + by).digest()
        trail.digested(
            UtteranceDigest(
                call_id=call,
                utterance=number,
                first_seq=number * 100,
                last_seq=number * 100 + 49,
                samples=8000,
                sha256=pcm.hex(),
                chain=chain.hex(),
                watermark="rt1:k1:0000abcd",
                voice="v_1",
                consent=ARTIFACT.serial,
            )
        )
        trail.stopped()
    record.outcome = "caller_hung_up"
    trail.close()
    return kept.events


def written(directory: Path, events: list[Event], keeper: TextKeeper | None = None) -> None:
    policy = WriterPolicy(checkpoint_entries=4)
    writer = LogWriter.open(
        directory, SIGNER, keeper or texts(TextPolicy.HASH), moment(0), policy=policy
    )
    for number, event in enumerate(events):
        if number == 7:
            writer.rotate(moment(number))
        writer.append([Pending(event, moment(number))], moment(number))
    writer.close(moment(99))


def bundled(directory: Path, **options: Any) -> dict[str, bytes]:
    logs = prove_call(directory, KEYS, CALL)
    options.setdefault("consents", [DOCUMENT])
    return bundle_files(CALL, logs, SIGNER, KEYS, moment(100), **options)


def archive(files: dict[str, bytes]) -> BytesIO:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    packed.seek(0)
    return packed


def checked(files: dict[str, bytes], keys: list[bytes] = KEYS) -> BundleReport:
    return check_bundle(archive(files), keys)


def resealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files sealed anew, as the operator's own key could."""
    from ringtrue.agent.audit.notes import sign_note
    from ringtrue.agent.audit.published import BUNDLE_ORIGIN, canonical

    inner = {k: v for k, v in files.items() if not k.startswith("manifest.")}
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in inner.items()}
    data = canonical(manifest)
    digest = hashlib.sha256(data).hexdigest()
    note = sign_note(f"{BUNDLE_ORIGIN}\n{digest}\n", SIGNER)
    return inner | {"manifest.json": data, "manifest.sig": note.encode()}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("evidence") / "audit"
    before = [said(number, "call-0") for number in range(5)]
    about = Event(Kind.CONSENT_GIVEN, tenant="acme", voice="v_1", consent=ARTIFACT.serial)
    written(directory, [*before, about, *spoken_call(), *spoken_call("call-2")])
    return directory


@pytest.fixture(scope="module")
def files(log: Path) -> dict[str, bytes]:
    return bundled(log)


def bad(report: BundleReport) -> list[str]:
    return [finding.what for finding in report.findings if not finding.good]


def test_a_bundle_holds(files: dict[str, bytes]) -> None:
    report = checked(files)
    assert bad(report) == []
    assert report.trusted
    assert report.keys == [SIGNER.public.hex()]
    assert [entry["kind"] for entry in report.entries] == [
        "consent.given",
        "call.started",
        *["utterance"] * 3,
        "call.ended",
    ]
    assert checked(files, []).good
    assert not checked(files, []).trusted


def test_the_verifier_in_the_bundle_needs_nothing_of_ours(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.zip"
    write_bundle(bundle, files)
    assert bundle.stat().st_mode & 0o777 == 0o600
    (tmp_path / "verify.py").write_bytes(files["verify.py"])
    probe = (
        "import runpy, sys\n"
        "class Ban:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'ringtrue': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Ban())\n"
        f"sys.argv = ['verify.py', {str(bundle)!r}, '--key', {SIGNER.public.hex()!r}]\n"
        "runpy.run_path('verify.py', run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "The evidence holds." in ran.stdout
    assert "compare them" not in ran.stdout


def test_another_key_does_not_hold(files: dict[str, bytes]) -> None:
    assert "the bundle's signature" in bad(checked(files, [Signer.generate().public]))[0]


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    changed = bytearray(files[name])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        report = checked(files | {name: bytes(changed)})
    except VerificationError:
        return
    assert not report.good


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_what_is_no_bundle_says_so(data: bytes) -> None:
    with pytest.raises(VerificationError):
        check_bundle(BytesIO(data), KEYS)


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_archive_never_breaks_the_verifier(
    files: dict[str, bytes], at: int, xor: int
) -> None:
    packed = bytearray(archive(files).getvalue())
    packed[at % len(packed)] ^= xor
    try:
        check_bundle(BytesIO(bytes(packed)), KEYS)
    except VerificationError:
        return


def test_a_file_added_or_missing_is_found(files: dict[str, bytes]) -> None:
    assert bad(checked(files | {"more.txt": b""}))
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        try:
            assert bad(checked(rest)), name
        except VerificationError:
            assert name in ("manifest.json", "manifest.sig", "keys.json")


def without(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:number] + lines[number + 1 :]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (without(2), "the call's own chain: an utterance before entry"),
        (without(4), "the call's own chain: the last utterances are missing"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "entries: they are out of order"),
        (lambda lines: [lines[0], *lines], "entries: they are out of order or doubled"),
        (lambda lines: [], "entries: there are none"),
    ],
)
def test_even_the_operator_cannot_leave_out_an_utterance(
    files: dict[str, bytes], edit: Callable[[list[bytes]], list[bytes]], complaint: str
) -> None:
    lines = edit(files["entries.jsonl"].splitlines(keepends=True))
    report = checked(resealed(files | {"entries.jsonl": b"".join(lines)}))
    assert any(what.startswith(complaint) for what in bad(report)), bad(report)


def test_a_consent_of_another_voice_or_none_is_found(files: dict[str, bytes], log: Path) -> None:
    _, other = consent("v_2")
    for documents, complaint in (([], "is not here"), ([other], "is not here")):
        report = checked(bundled(log, consents=documents))
        assert complaint in bad(report)[0]
    forged = json.loads(DOCUMENT)
    forged["consents"][0]["record"]["scope"]["tenant"] = "other"
    report = checked(bundled(log, consents=[json.dumps(forged).encode()]))
    assert "the signature is not over it" in bad(report)[0]


def test_a_voice_erased_since_needs_no_consent_in_the_bundle(tmp_path: Path) -> None:
    erased = Event(Kind.VOICE_ERASED, tenant="acme", voice="v_1")
    written(tmp_path / "audit", [*spoken_call(), erased])
    report = checked(bundled(tmp_path / "audit", consents=[]))
    assert bad(report) == []


def test_texts_are_revealed_only_as_they_were(tmp_path: Path) -> None:
    keeper = texts(TextPolicy.ENCRYPTED)
    events = [
        Event(Kind.UTTERANCE, call=CALL, text="yes", output=event.output)
        for event in spoken_call()
        if event.output is not None
    ]
    written(tmp_path / "audit", events[:1], keeper)
    logs = prove_call(tmp_path / "audit", KEYS, CALL)
    assert b"yes" not in logs[0].entries[0].line
    found = revealed(logs, keeper)
    assert [item["text"] for item in found] == ["yes"]
    report = checked(bundled(tmp_path / "audit", texts=found))
    assert "texts" in [finding.what for finding in report.findings if finding.good]
    lie = [found[0] | {"text": "no"}]
    assert "other words" in bad(checked(bundled(tmp_path / "audit", texts=lie)))[-1]
    with pytest.raises(AuditError, match="another key"):
        revealed(logs, TextKeeper(bytes(32), TextPolicy.ENCRYPTED))


def test_hashes_give_no_text_away() -> None:
    keeper = TextKeeper(SECRET)
    one, two = keeper.kept("yes", log="a", seq=1), keeper.kept("yes", log="a", seq=2)
    assert one["hmac"] != two["hmac"]
    assert one["hmac"] != hashlib.sha256(b"yes").hexdigest()
    assert "sealed" not in one
    assert keeper.matches(one, "yes")
    assert not keeper.matches(one, "no")
    assert texts(TextPolicy.NONE).kept("yes", log="a", seq=1) == {}
    with pytest.raises(ValueError, match="32 bytes"):
        TextKeeper(b"short")


def test_a_detectors_report_goes_along(log: Path) -> None:
    assert checked(bundled(log, report=b'{"verdict":"yes"}')).good


def test_a_call_there_is_not(log: Path) -> None:
    with pytest.raises(NoSuchCallError, match="'call-9'"):
        prove_call(log, KEYS, "call-9")


def test_what_is_not_signed_yet_is_not_proven(tmp_path: Path) -> None:
    writer = LogWriter.open(tmp_path, SIGNER, texts(TextPolicy.HASH), moment(0))
    writer.append([Pending(said(1), moment(1))], moment(1))
    with pytest.raises(AuditError, match="not signed yet"):
        prove_call(tmp_path, KEYS, CALL)
    writer.close(moment(2))
    assert len(prove_call(tmp_path, KEYS, CALL)) == 1


def test_a_damaged_log_proves_nothing(tmp_path: Path) -> None:
    written(tmp_path, spoken_call())
    path = next(iter(segments_of(tmp_path / "w00").values()))
    path.write_bytes(path.read_bytes().replace(b"acme", b"acmf", 1))
    with pytest.raises(LogBrokenError):
        prove_call(tmp_path, KEYS, CALL)


def test_entries_are_proven_behind_deleted_ones(tmp_path: Path) -> None:
    policy = WriterPolicy(keep=timedelta(seconds=60))
    writer = LogWriter.open(tmp_path, SIGNER, texts(TextPolicy.HASH), moment(0), policy=policy)
    for number in range(11):
        writer.append([Pending(said(number, "old"), moment(number))], moment(number))
    writer.rotate(moment(11))
    for event in spoken_call():
        writer.append([Pending(event, moment(200))], moment(200))
    writer.tidy(moment(201))
    writer.close(moment(202))
    assert min(segments_of(tmp_path / "w00")) == 12
    assert checked(bundled(tmp_path)).good


def test_the_command_line_of_the_verifier(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "b.zip"
    write_bundle(bundle, files)
    assert main([str(bundle), "--key", SIGNER.public.hex()]) == 0
    assert main([str(bundle), "--key", "00" * 32]) == 1
    assert main([str(tmp_path / "none.zip")]) == 1
    with pytest.raises(SystemExit):
        main([str(bundle), "--key", "zz"])
    assert "NOT hold" in capsys.readouterr().out
