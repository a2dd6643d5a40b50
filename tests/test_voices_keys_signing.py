"""Signing keys: RFC 8032 signatures, key files, trust."""

from __future__ import annotations

import pickle
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError
from ringtrue.voices.keys.signing import Signer, TrustedKeys

# RFC 8032 §7.1, test 2.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_rfc_s_own_example() -> None:
    signer = Signer(Ed25519PrivateKey.from_private_bytes(SECRET))
    assert signer.public == PUBLIC
    assert signer.sign(b"\x72") == SIGNATURE
    assert TrustedKeys([PUBLIC]).check(signer.id, SIGNATURE, b"\x72")


def test_only_the_right_key_over_the_right_bytes() -> None:
    one, other = Signer.generate(), Signer.generate()
    trusted = TrustedKeys([one.public, other.public])
    signature = one.sign(b"message")
    assert trusted.check(one.id, signature, b"message")
    assert not trusted.check(other.id, signature, b"message")
    assert not trusted.check(one.id, signature, b"massage")
    assert not trusted.check(one.id, b"", b"message")
    for i in range(len(signature)):
        flipped = bytearray(signature)
        flipped[i] ^= 1
        assert not trusted.check(one.id, bytes(flipped), b"message")
    with pytest.raises(UnknownKeyError, match="unknown key"):
        TrustedKeys([other.public]).check(one.id, signature, b"message")
    with pytest.raises(UnknownKeyError, match="keys held: none"):
        TrustedKeys([]).check(one.id, signature, b"message")
    with pytest.raises(KeyMaterialError, match="31 bytes; it takes 32"):
        TrustedKeys([one.public[:31]])


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    made = Signer.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Signer.load(path).public == made.public
    with pytest.raises(KeyMaterialError, match="exists already"):
        Signer.create(path)
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="mode 0644"):
        Signer.load(path)


def test_key_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    for algorithm, complaint in (("ed25519", None), ("x25519", "not an Ed25519 key")):
        path.unlink(missing_ok=True)
        command = ["openssl", "genpkey", "-algorithm", algorithm, "-out", str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        path.chmod(0o600)
        if complaint is None:
            assert len(Signer.load(path).public) == 32
        else:
            with pytest.raises(KeyMaterialError, match=complaint):
                Signer.load(path)
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(KeyMaterialError, match="not an unencrypted PEM"):
            Signer.load(path)


def test_a_signer_gives_nothing_away() -> None:
    signer = Signer.generate()
    assert repr(signer) == f"Signer(id={signer.id!r})"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)
