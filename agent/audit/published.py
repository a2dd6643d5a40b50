#!/usr/bin/env python3
"""Checks a bundle of evidence, offline. Needs Python 3.9 or later and ``cryptography``.

    python verify.py bundle.zip [--key HEX]...

``--key`` is the public key (64 hexadecimal digits) that the operator publishes; without it the
bundle is checked against the keys inside it, which proves only that it is consistent.

This file is the whole verifier: it is what ``ringtrue evidence verify`` runs, and a copy of it is
in every bundle. The hashing is RFC 6962 §2.1, the proofs RFC 9162 §2.1.3 and §2.1.4, the
checkpoints are signed notes in the manner of C2SP's tlog-checkpoint.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE_ORIGIN = "ringtrue/evidence/1"
MAX_MEMBER = 64 * 1024 * 1024
"""Bytes of one file in a bundle, unpacked."""

MAX_MEMBERS = 1000
EMPTY_ROOT = hashlib.sha256(b"").digest()
RELATED = (
    "voice.enrolled",
    "voice.erased",
    "consent.given",
    "consent.renewed",
    "consent.withdrawn",
)
"""Entries about a voice that belong to the evidence of every call it spoke in."""

HEX_KEY = re.compile(r"[0-9a-f]{64}")


class VerificationError(Exception):
    """Something is not what it says; the message tells what."""


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 §2.1: the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 §2.1.3.2: leaf hash ``leaf`` is number ``index`` of ``size`` leaves under ``root``.

    Raises :class:`VerificationError`.
    """
    if not 0 <= index < size:
        raise VerificationError(f"entry {index} is not in a tree of {size}")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            raise VerificationError(f"entry {index}: its inclusion proof is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn or r != root:
        raise VerificationError(f"entry {index} is not in the tree of {size} that was signed")


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> None:
    """RFC 9162 §2.1.4.2: the tree of ``first`` leaves is the beginning of the one of ``second``.

    Raises :class:`VerificationError`.
    """
    wrong = VerificationError(f"the tree of {second} doesn't continue the signed tree of {first}")
    if not 0 <= first <= second:
        raise wrong
    if first in (0, second):
        if path or (first and first_root != second_root):
            raise wrong
        return
    steps = list(path)
    if first & (first - 1) == 0:
        steps.insert(0, first_root)
    if not steps:
        raise wrong
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = steps[0]
    for c in steps[1:]:
        if sn == 0:
            raise wrong
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn or fr != first_root or sr != second_root:
        raise wrong


def canonical(value: object) -> bytes:
    """The one way to write ``value``: JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def read_canonical(data: bytes) -> dict[str, Any]:
    """Parse an object written by :func:`canonical`. Raises :class:`VerificationError`."""
    try:
        value = json.loads(data)
        same = isinstance(value, dict) and canonical(value) == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise VerificationError("not JSON in its canonical form")
    found: dict[str, Any] = value
    return found


def from_base64(text: str) -> bytes:
    """Strict base64: one spelling for each value. Raises :class:`VerificationError`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise VerificationError("not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise VerificationError("not base64 in its canonical form")
    return raw


def note_key_id(name: str, public: bytes) -> bytes:
    """C2SP signed-note: the 4 bytes that name an Ed25519 key."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def open_note(text: str, keys: Iterable[bytes]) -> tuple[str, bytes]:
    """The body of a signed note, and which of ``keys`` (32 bytes each) signed it.

    The signature's name is the note's first line. Raises :class:`VerificationError`.
    """
    body, blank, tail = text.rpartition("\n\n")
    body += "\n"
    words = tail.split(" ")
    if not blank or not tail.endswith("\n") or len(words) != 3 or words[0] != "—":
        raise VerificationError("not a signed note")
    name = body.split("\n", 1)[0]
    signed = from_base64(words[2][:-1])
    if words[1] != name or len(signed) != 68:
        raise VerificationError("not a note signed by Ed25519 in its origin's name")
    for public in keys:
        if note_key_id(name, public) != signed[:4]:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signed[4:], body.encode())
        except (InvalidSignature, ValueError):
            raise VerificationError("a note's signature is not over its text") from None
        return body, public
    raise VerificationError(f"signed by a key that is not trusted here (hint {signed[:4].hex()})")


class Checkpoint(NamedTuple):
    """What a log's writer signed: so many entries, under this root, ending in this chain."""

    origin: str
    size: int
    root: bytes
    chain: str
    """SHA-256 of the line before it in the log, in hexadecimal."""

    time: str
    """UTC, ISO 8601."""

    def body(self) -> str:
        """The text that is signed (C2SP tlog-checkpoint, with two extension lines)."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\nchain {self.chain}\ntime {self.time}\n"


def read_checkpoint(text: str, keys: Iterable[bytes]) -> tuple[Checkpoint, bytes]:
    """A checkpoint whose signature holds, and the key it is by.

    Raises :class:`VerificationError`.
    """
    body, public = open_note(text, keys)
    return parse_checkpoint(body), public


def parse_checkpoint(body: str) -> Checkpoint:
    """A checkpoint's text; the signature is another matter. Raises :class:`VerificationError`."""
    lines = body.split("\n")
    if len(lines) != 6 or not lines[1].isdecimal():
        raise VerificationError("not a checkpoint")
    chain, time = lines[3].removeprefix("chain "), lines[4].removeprefix("time ")
    found = Checkpoint(lines[0], int(lines[1]), from_base64(lines[2]), chain, time)
    if found.body() != body or len(found.root) != 32:
        raise VerificationError("not a checkpoint in its canonical form")
    return found


class Finding(NamedTuple):
    """One thing that was looked at."""

    good: bool
    what: str


class BundleReport(NamedTuple):
    """What a bundle shows."""

    call: str
    findings: Sequence[Finding]
    entries: Sequence[Mapping[str, Any]]
    keys: Sequence[str]
    """Public keys the checkpoints are by, in hexadecimal."""

    trusted: bool
    """Whether those were given from outside."""

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return all(finding.good for finding in self.findings)


def check_bundle(source: Any, trusted: Iterable[bytes] = ()) -> BundleReport:
    """Check the bundle at a path or in an open binary file.

    ``trusted``: the operator's public keys, 32 bytes each; none: those in the bundle. Raises
    :class:`VerificationError` where it is no bundle at all.
    """
    members = _members(source)
    try:
        manifest = read_canonical(members["manifest.json"])
        keys = read_canonical(members["keys.json"])
        call = str(manifest["call"])
        inside = [bytes.fromhex(key) for key in keys["audit"]]
        hashes = dict(manifest["files"])
        seal = members["manifest.sig"].decode()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationError(f"not a bundle of evidence: {error}") from None
    known = list(trusted) or inside
    findings: list[Finding] = []

    def check(what: str, action: Any) -> Any:
        try:
            result = action()
        except VerificationError as error:
            findings.append(Finding(False, f"{what}: {error}"))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as e:
            findings.append(Finding(False, f"{what}: not as it should be ({type(e).__name__})"))
        else:
            findings.append(Finding(True, what))
            return result
        return None

    check("the bundle's signature", lambda: _check_seal(seal, members, known))
    check("every file is the one that was sealed", lambda: _check_files(members, hashes))
    checkpoints = {}
    used = set()
    for name in sorted(members):
        if name.startswith("checkpoints/"):
            opened = check(name, lambda n=name: read_checkpoint(members[n].decode(), known))
            if opened is not None:
                checkpoints[opened[0].origin] = opened[0]
                used.add(opened[1].hex())
    entries = (
        check("entries", lambda: _check_entries(members["entries.jsonl"], checkpoints, call)) or []
    )
    check("the call's own chain", lambda: _check_call_chain(entries, call))
    if any(entry.get("consent") for entry in entries):
        check("consents", lambda: _check_consents(members["consents.json"], entries))
    if "texts.json" in members:
        check("texts", lambda: _check_texts(members["texts.json"], entries))
    return BundleReport(call, findings, entries, sorted(used), bool(list(trusted)))


def _members(source: Any) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS or any(info.file_size > MAX_MEMBER for info in infos):
                raise VerificationError("the archive is larger than any bundle")
            names = [info.filename for info in infos]
            if len(set(names)) != len(names):
                raise VerificationError("the archive names a file twice")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise VerificationError(f"not a readable ZIP archive: {error}") from None
    except Exception as error:  # zlib.error, and what damaged headers make zipfile raise
        if isinstance(error, VerificationError):
            raise
        raise VerificationError(f"not a readable ZIP archive: {type(error).__name__}") from None


def _check_seal(seal: str, members: Mapping[str, bytes], keys: Sequence[bytes]) -> None:
    body, _ = open_note(seal, keys)
    digest = hashlib.sha256(members["manifest.json"]).hexdigest()
    if body != f"{BUNDLE_ORIGIN}\n{digest}\n":
        raise VerificationError("it is over another manifest")


def _check_files(members: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
    outside = {"manifest.json", "manifest.sig"}
    if set(hashes) != set(members) - outside:
        odd = ", ".join(sorted(set(hashes) ^ (set(members) - outside)))
        raise VerificationError(f"missing or added: {odd}")
    for name, digest in hashes.items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise VerificationError(f"{name} was altered")


def _check_entries(
    data: bytes, checkpoints: Mapping[str, Checkpoint], call: str
) -> list[dict[str, Any]]:
    found = []
    for raw in data.splitlines():
        item = read_canonical(raw)
        line = item["line"].encode()
        entry = read_canonical(line)
        checkpoint = checkpoints.get(item["origin"])
        if checkpoint is None:
            raise VerificationError(f"no checkpoint of {item['origin']}")
        if f"ringtrue/audit/{entry['log']}" != checkpoint.origin:
            raise VerificationError(f"entry {entry['seq']} is of another log")
        path = [from_base64(step) for step in item["path"]]
        check_inclusion(leaf_hash(line), entry["seq"], checkpoint.size, path, checkpoint.root)
        found.append(entry)
    if not found:
        raise VerificationError("there are none")
    voices = {entry.get("voice") for entry in found if entry.get("call") == call} - {None}
    for entry in found:
        related = entry["kind"] in RELATED and entry.get("voice") in voices
        if entry.get("call") != call and not related:
            raise VerificationError(f"entry {entry['seq']} is of another call")
    order = [(entry["log"], entry["seq"]) for entry in found]
    if order != sorted(set(order)):
        raise VerificationError("they are out of order or doubled")
    return found


def call_chain(
    before: str, output: Mapping[str, Any], voice: str | None, consent: str | None
) -> str:
    """The chain of a call after an utterance, in hexadecimal; ``before`` likewise."""
    by = b"" if consent is None else f"\n{voice}\n{consent}".encode()
    return hashlib.sha256(bytes.fromhex(before) + bytes.fromhex(output["sha256"]) + by).hexdigest()


def _check_call_chain(entries: Sequence[Mapping[str, Any]], call: str) -> None:
    """Every utterance is there: each one's chain continues the one before it."""
    chain = hashlib.sha256(call.encode()).hexdigest()
    spoken = 0
    for entry in entries:
        if entry.get("call") != call:
            continue
        if entry["kind"] in ("utterance", "call.relayed"):
            spoken += 1
            chain = call_chain(chain, entry["output"], entry.get("voice"), entry.get("consent"))
            if chain != entry["output"]["chain"]:
                raise VerificationError(f"an utterance before entry {entry['seq']} is missing")
        elif entry["kind"] == "call.ended":
            end = entry["detail"]
            if end["utterances"] != spoken or end["chain"] != chain:
                raise VerificationError("the last utterances are missing")


def _check_consents(data: bytes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Every consent an utterance names is there, signed, and of that voice."""
    voices = json.loads(data)
    serials = {}
    for document in voices:
        for signed in document["consents"] + document["withdrawals"]:
            record = signed["record"]
            public = bytes.fromhex(document["keys"][signed["key"]])
            if hashlib.sha256(public).hexdigest()[:16] != signed["key"]:
                raise VerificationError(f"record {record['serial']}: its key has another id")
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(
                    from_base64(signed["signature"]), canonical(record)
                )
            except InvalidSignature:
                raise VerificationError(
                    f"record {record['serial']}: the signature is not over it"
                ) from None
            if record["type"] == "ringtrue/consent":
                serials[record["serial"]] = record
    erased = {entry.get("voice") for entry in entries if entry["kind"] == "voice.erased"}
    for entry in entries:
        serial = entry.get("consent")
        if serial is None or entry["kind"] in RELATED:
            continue
        record = serials.get(serial)
        if record is None and entry.get("voice") in erased:
            continue  # erased on demand, records and all, which is an entry of its own
        if record is None:
            raise VerificationError(f"consent {serial} of entry {entry['seq']} is not here")
        if record["voice"] != entry.get("voice"):
            raise VerificationError(f"consent {serial} is of another voice")
        scope = record["scope"]
        if entry["kind"] == "utterance" and not scope["not_before"] <= entry["at"]:
            raise VerificationError(f"consent {serial} was not yet given at entry {entry['seq']}")


def _check_texts(data: bytes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Every text that was revealed is what its entry committed to."""
    of = {(entry["log"], entry["seq"]): entry for entry in entries}
    for revealed in json.loads(data):
        entry = of[revealed["log"], revealed["seq"]]
        key = bytes.fromhex(revealed["key"])
        if hmac.new(key, revealed["text"].encode(), "sha256").hexdigest() != entry["text"]["hmac"]:
            raise VerificationError(f"entry {entry['seq']} was about other words")


def show(report: BundleReport) -> str:
    """The report, for people."""
    lines = [f"call {report.call}: {len(report.entries)} entries"]
    for entry in report.entries:
        output = entry.get("output") or {}
        what = " ".join(
            str(part)
            for part in (
                f"#{entry['seq']}",
                entry["at"],
                entry["kind"],
                entry.get("voice") or "",
                f"{output['samples'] / output['rate']:.1f} s" if output.get("rate") else "",
                f"sha256 {output['sha256'][:16]}…" if output else "",
                f"mark {entry['watermark']}" if entry.get("watermark") else "",
            )
            if part
        )
        lines.append(f"  {what}")
    lines += [f"{'ok  ' if finding.good else 'BAD '} {finding.what}" for finding in report.findings]
    for key in report.keys:
        lines.append(f"signed by {key}")
    if not report.trusted:
        lines.append(
            "The keys are the bundle's own: compare them with what the operator publishes."
        )
    lines.append("The evidence holds." if report.good else "The evidence does NOT hold.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle: 0 where it holds, 1 where it doesn't."""
    parser = argparse.ArgumentParser(description="Check a bundle of evidence, offline.")
    parser.add_argument("bundle")
    parser.add_argument("--key", action="append", default=[], help="the operator's public key")
    given = parser.parse_args(arguments)
    for key in given.key:
        if not HEX_KEY.fullmatch(key):
            parser.error(f"--key {key!r}: 64 hexadecimal digits in lower case")
    try:
        report = check_bundle(given.bundle, [bytes.fromhex(key) for key in given.key])
    except VerificationError as error:
        print(f"{given.bundle}: {error}", file=sys.stderr)
        return 1
    print(show(report))
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
