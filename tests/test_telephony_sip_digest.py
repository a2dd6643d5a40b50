"""Digest values against RFC 7616's examples, and whatever else may come."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.sip.digest import (
    Challenge,
    Credentials,
    digest_response,
    known_algorithm,
    parse_challenge,
    parse_credentials,
    strength,
)
from ringtrue.telephony.sip.errors import SipParseError

NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
CHALLENGE = (
    f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
    f'nonce="{NONCE}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CREDENTIALS = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
    f'algorithm=SHA-256, nonce="{NONCE}", nc=00000001, cnonce="{CNONCE}", qop=auth, '
    'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    assert (
        digest_response(
            algorithm=algorithm,
            user="Mufasa",
            realm="http-auth@example.org",
            password="Circle of Life",
            method="GET",
            uri="/dir/index.html",
            nonce=NONCE,
            cnonce=CNONCE,
            count=1,
        )
        == response
    )


def test_without_qop() -> None:
    """RFC 2069's form: H(H(A1):nonce:H(A2))."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    uri, nonce = "sips:ss2.biloxi.example.com", "ea9c8e88df84f1cec4341ae6cbe5a359"
    secret, target = md5("bob:atlanta.example.com:zanzibar"), md5(f"REGISTER:{uri}")
    assert digest_response(
        algorithm="MD5",
        user="bob",
        realm="atlanta.example.com",
        password="zanzibar",
        method="REGISTER",
        uri=uri,
        nonce=nonce,
    ) == md5(f"{secret}:{nonce}:{target}")


def test_a_challenge_is_read() -> None:
    challenge = parse_challenge(CHALLENGE)
    assert (challenge.realm, challenge.nonce) == ("http-auth@example.org", NONCE)
    assert (challenge.algorithm, challenge.qop, challenge.stale) == ("SHA-256", True, False)
    old = parse_challenge('digest  nonce=abc ,REALM="a \\"b\\"", Stale=TRUE, algorithm=md5-SESS')
    assert old == Challenge('a "b"', "abc", "MD5-sess", qop=False, stale=True)


def test_credentials_are_read() -> None:
    credentials = parse_credentials(CREDENTIALS)
    assert (credentials.user, credentials.count, credentials.cnonce) == ("Mufasa", 1, CNONCE)
    assert parse_credentials(str(credentials)) == credentials


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ('Basic realm="x"', "not a Digest"),
        ('Digest realm="x"', "without realm or nonce"),
        ('Digest nonce="x", qop="auth"', "without realm or nonce"),
        ('Digest realm="x", nonce="y", qop="auth-int"', "only auth is"),
        ('Digest realm="x", nonce="y", algorithm=SHA-1', "SHA-1"),
        ('Digest realm="x", realm="y"', "realm is given twice"),
        ('Digest realm="x', "bad parameter"),
        ('Digest realm="x" nonce="y"', "bad parameter"),
        ("Digest " + ",".join(f"a{n}=1" for n in range(40)), "bad parameter"),
    ],
)
def test_challenges_that_cannot_be_answered(value: str, complaint: str) -> None:
    with pytest.raises(SipParseError, match=complaint):
        parse_challenge(value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('username="Mufasa", ', "", "without username"),
        ("nc=00000001, ", "", "without nc or cnonce"),
        ("nc=00000001", "nc=1", "without nc or cnonce"),
        ("nc=00000001", "nc=0000000g", "without nc or cnonce"),
        ("qop=auth", "qop=auth-int", "only auth is"),
        ("SHA-256", "SHA-1", "SHA-1"),
    ],
)
def test_credentials_that_cannot_be_checked(old: str, new: str, complaint: str) -> None:
    with pytest.raises(SipParseError, match=complaint):
        parse_credentials(CREDENTIALS.replace(old, new))


TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\0"), min_size=1
)


@given(realm=TEXT, nonce=TEXT, opaque=st.none() | TEXT, qop=st.booleans(), stale=st.booleans())
def test_challenges_survive_writing_and_reading(
    realm: str, nonce: str, opaque: str | None, qop: bool, stale: bool
) -> None:
    challenge = Challenge(realm, nonce, "SHA-512-256", qop, opaque, stale)
    assert parse_challenge(str(challenge)) == challenge


@given(user=TEXT, realm=TEXT, uri=TEXT, count=st.none() | st.integers(1, 2**32 - 1))
def test_credentials_survive_writing_and_reading(
    user: str, realm: str, uri: str, count: int | None
) -> None:
    cnonce = None if count is None else "c"
    credentials = Credentials(user, realm, "n", uri, "ab", cnonce=cnonce, count=count)
    assert parse_credentials(str(credentials)) == credentials


@given(st.text(max_size=200))
def test_anything_else_is_a_parse_error(text: str) -> None:
    for value in (text, f"Digest {text}"):
        for read in (parse_challenge, parse_credentials):
            try:
                read(value)
            except SipParseError:
                continue


def test_strength_and_names() -> None:
    names = ["SHA-256-sess", "MD5", "SHA-512-256"]
    assert sorted(names, key=strength) == ["MD5", "SHA-256-sess", "SHA-512-256"]
    assert known_algorithm("sha-512-256-SESS") == "SHA-512-256-sess"
    with pytest.raises(SipParseError):
        known_algorithm("MD4")
