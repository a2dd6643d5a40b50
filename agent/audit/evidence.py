"""A bundle of evidence for one call: a ZIP archive that anybody can check, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

from ringtrue.agent.audit.disk import replacing
from ringtrue.agent.audit.entries import iso
from ringtrue.agent.audit.notes import sign_note
from ringtrue.agent.audit.published import BUNDLE_ORIGIN, canonical
from ringtrue.agent.audit.searching import FromLog
from ringtrue.agent.audit.texts import TextKeeper
from ringtrue.voices.keys.signing import Signer

FORMAT: Final = 1
REPORT: Final = "detector.json"
"""Where a watermark detector's report goes."""

RECORDINGS: Final = "recordings.json"
"""What is known of the call's recordings."""

_README: Final = """\
Evidence of call {call}
Made {made}.

To check it, with Python 3.9 or later and its package "cryptography":

    python verify.py {name} --key KEY

KEY is the public key that the operator publishes (64 hexadecimal digits). Take it from the
operator, not from this bundle; take verify.py from the operator too if you don't trust this one.

What is here:

entries.jsonl     the call's lines of the audit log and what it holds of the voices in it, each
                  with the Merkle inclusion proof (RFC 9162) that it is under a checkpoint
checkpoints/      the signed checkpoints (C2SP tlog-checkpoint, Ed25519)
consents.json     the signed records of every cloned voice that was heard
texts.json        what was said, where it was kept and is revealed, with each entry's own key
{report}     the watermark detector's report on a recording, if one was added
recordings.json   the call's recordings that the operator keeps, with the SHA-256 of each encrypted
                  file; the log's entries "recording." say when one began, ended or was erased
keys.json         the public keys
manifest.json     SHA-256 of every file; manifest.sig signs it

"output.sha256" of an utterance is the SHA-256 of the 16-bit little-endian mono PCM that was sent,
from frame "first" to frame "last"; "output.chain" runs over all utterances of the call, so that
none can be left out.
"""


def revealed(logs: Sequence[FromLog], keeper: TextKeeper) -> list[dict[str, str | int]]:
    """The texts that the entries keep, each with the key that proves it.

    Raises :class:`~ringtrue.agent.audit.errors.AuditError` where they are under another key.
    """
    found: list[dict[str, str | int]] = []
    for log in logs:
        for proven in log.entries:
            entry = proven.entry
            kept: dict[str, str] = entry.get("text", {})
            text = keeper.text(kept, log=entry["log"], seq=entry["seq"])
            if text is None or not keeper.matches(kept, text):  # one that was too long was cut
                continue
            found.append(
                {
                    "log": entry["log"],
                    "seq": entry["seq"],
                    "text": text,
                    "key": keeper.opening(kept),
                }
            )
    return found


def bundle_files(
    call: str,
    logs: Sequence[FromLog],
    signer: Signer,
    keys: Sequence[bytes],
    now: datetime,
    *,
    name: str = "bundle.zip",
    consents: Sequence[bytes] = (),
    texts: Sequence[Mapping[str, str | int]] = (),
    report: bytes | None = None,
    recordings: Sequence[Mapping[str, str | float | bool | None]] = (),
) -> dict[str, bytes]:
    """Every file of a bundle by its name.

    ``keys``: the public keys that the checkpoints may be by; ``consents``: what
    :meth:`~ringtrue.voices.library.VoiceLibrary.export_consent` gave for each voice; ``report``:
    the watermark detector's; ``recordings``: what is known of the call's.
    """
    lines = []
    for log in sorted(logs, key=lambda log: log.origin):
        for proven in log.entries:
            path = [base64.b64encode(step).decode() for step in proven.path]
            lines.append(
                canonical({"line": proven.line.decode(), "origin": log.origin, "path": path})
            )
    files = {f"checkpoints/{log.origin.rpartition('/')[2]}.txt": log.note.encode() for log in logs}
    files["entries.jsonl"] = b"".join(line + b"\n" for line in lines)
    files["keys.json"] = canonical({"audit": [key.hex() for key in keys]})
    documents = [json.loads(document) for document in consents]
    files["consents.json"] = json.dumps(documents, ensure_ascii=False, indent=1).encode()
    if texts:
        files["texts.json"] = json.dumps(list(texts), ensure_ascii=False, indent=1).encode()
    if report is not None:
        files[REPORT] = report
    if recordings:
        files[RECORDINGS] = json.dumps(list(recordings), indent=1).encode()
    files["verify.py"] = resources.files(__package__).joinpath("published.py").read_bytes()
    files["README.txt"] = _README.format(
        call=call, made=iso(now), name=name, report=REPORT
    ).encode()
    manifest = canonical(
        {
            "format": FORMAT,
            "call": call,
            "made": iso(now),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
    )
    digest = hashlib.sha256(manifest).hexdigest()
    files["manifest.sig"] = sign_note(f"{BUNDLE_ORIGIN}\n{digest}\n", signer).encode()
    files["manifest.json"] = manifest
    return files


def write_bundle(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the archive, whole or not at all. Raises OSError."""
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
