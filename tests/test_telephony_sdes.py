"""a=crypto: what is read, what is passed over, what is agreed on, and that no key is shown."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.codecs import PCMU
from ringtrue.telephony.offer_answer import (
    AudioPlan,
    Local,
    NotAcceptableError,
    answer_offer,
    make_offer,
    read_answer,
)
from ringtrue.telephony.sdes import (
    SUITES,
    Crypto,
    Security,
    SrtpMode,
    new_key,
    parse_crypto,
    suite_named,
)
from ringtrue.telephony.sdp import SdpError, SessionDescription, parse

KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()
LINE = f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}"
CODECS = (PCMU,)
OFF, OFFER, REQUIRE = (Security(mode) for mode in SrtpMode)


def ours(security: Security = OFFER) -> Local:
    return Local("198.51.100.1", 30000, 30001, 42, security=security)


def theirs(security: Security = OFFER) -> Local:
    return Local("192.0.2.9", 4000, 4001, 7, security=security)


def offer(profile: str, *cryptos: str, more: str = "") -> SessionDescription:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.9",
        "s=-",
        "c=IN IP4 192.0.2.9",
        "t=0 0",
        f"m=audio 4000 {profile} 0",
        *(f"a=crypto:{crypto}" for crypto in cryptos),
        *more.split("\n"),
    ]
    return parse("\r\n".join(line for line in lines if line).encode())


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_an_attribute_reads_back(suite) -> None:  # type: ignore[no-untyped-def]
    crypto = Crypto(3, suite, new_key(suite))
    value = crypto.attribute().value
    assert value is not None
    assert parse_crypto(value) == crypto


@pytest.mark.parametrize(
    "tail", ["", "|2^20", "|1048576", " WSH=64", " -UNENCRYPTED_SRTP", "|2^31 WSH=128"]
)
def test_lifetimes_and_hints_change_nothing(tail: str) -> None:
    assert parse_crypto(LINE + tail).key == KEY


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "needs tag"),
        ("x AES_CM_128_HMAC_SHA1_80 inline:" + INLINE, "digits"),
        ("1 F8_128_HMAC_SHA1_80 inline:" + INLINE, "suite"),
        ("1 AES_CM_128_HMAC_SHA1_80 external:" + INLINE, "inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + INLINE[:-4], "28|27 bytes"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:####", "base64"),
        (LINE + "|1:4", "identifier"),
        (LINE + "|2^20|1:4", "identifier"),
        (LINE + ";inline:" + INLINE, "several"),
        (LINE + " UNENCRYPTED_SRTP", "session parameter"),
        (LINE + " UNAUTHENTICATED_SRTP", "session parameter"),
        (LINE + " KDR=1", "session parameter"),
    ],
)
def test_what_cannot_be_followed_is_an_error_that_shows_no_key(value: str, why: str) -> None:
    with pytest.raises(SdpError, match=why) as error:
        parse_crypto(value)
    assert INLINE[:8] not in str(error.value)


@given(st.text(max_size=120))
def test_any_value_is_read_or_refused(value: str) -> None:
    for text in (value, LINE + value, LINE[:30] + value):
        try:
            crypto = parse_crypto(text)
        except SdpError:
            continue
        assert len(crypto.key) == crypto.suite.key_bytes + crypto.suite.salt_bytes


def test_no_key_in_a_repr() -> None:
    answer, plan = answer_offer(offer("RTP/SAVP", LINE), ours(), CODECS)
    assert plan.srtp is not None
    shown = repr(plan) + repr(parse_crypto(LINE))
    assert str(KEY)[2:20] not in shown
    assert str(plan.srtp.send)[2:14] not in shown
    assert answer.media[0].value("crypto") is not None


def test_an_encrypted_stream_is_answered_in_its_profile() -> None:
    for profile in ("RTP/SAVP", "RTP/SAVPF", "RTP/AVP"):
        answer, plan = answer_offer(offer(profile, LINE.replace("1 ", "7 ", 1)), ours(), CODECS)
        assert answer.media[0].protocol == profile
        assert plan.srtp is not None
        assert plan.srtp.receive == KEY
        crypto = parse_crypto(answer.media[0].value("crypto") or "")
        assert (crypto.tag, crypto.suite.name) == (7, "AES_CM_128_HMAC_SHA1_80")
        assert crypto.key == plan.srtp.send != KEY


def test_the_offerers_first_suite_that_we_have_is_taken() -> None:
    lines = [
        "1 F8_128_HMAC_SHA1_80 inline:" + INLINE,
        LINE.replace("1 ", "2 ", 1) + "|1:4",
        f"3 AEAD_AES_128_GCM inline:{base64.b64encode(bytes(28)).decode()}",
        LINE.replace("1 ", "4 ", 1),
    ]
    _, plan = answer_offer(offer("RTP/SAVP", *lines), ours(), CODECS)
    assert plan.srtp is not None
    assert plan.srtp.suite.name == "AEAD_AES_128_GCM"
    only = Security(SrtpMode.OFFER, (suite_named("AES_CM_128_HMAC_SHA1_80"),))
    _, plan = answer_offer(offer("RTP/SAVP", *lines), ours(only), CODECS)
    assert plan.srtp is not None
    assert plan.srtp.receive == KEY


@pytest.mark.parametrize(
    ("security", "description", "why"),
    [
        (OFF, offer("RTP/SAVP", LINE), "only RTP/AVP"),
        (OFFER, offer("RTP/SAVP"), "keys are needed"),
        (OFFER, offer("RTP/SAVP", LINE + "|1:4"), "keys are needed"),
        (REQUIRE, offer("RTP/AVP"), "keys are needed"),
        (REQUIRE, offer("RTP/AVP", LINE + " UNENCRYPTED_SRTP"), "keys are needed"),
        (OFFER, offer("UDP/TLS/RTP/SAVP", LINE), "RTP/SAVP are supported|RTP/SAVPF are"),
    ],
)
def test_what_is_not_acceptable(
    security: Security, description: SessionDescription, why: str
) -> None:
    with pytest.raises(NotAcceptableError, match=why):
        answer_offer(description, ours(security), CODECS)


def test_plain_media_where_allowed() -> None:
    for security, description in [
        (OFF, offer("RTP/AVP", LINE)),
        (OFFER, offer("RTP/AVP")),
        (OFFER, offer("RTP/AVPF", "nonsense")),
    ]:
        answer, plan = answer_offer(description, ours(security), CODECS)
        assert plan.srtp is None
        assert answer.media[0].value("crypto") is None
        assert answer.media[0].port


def test_of_two_streams_the_encrypted_one_is_taken() -> None:
    both = offer("RTP/AVP", more=f"m=audio 5000 RTP/SAVP 0\na=crypto:{LINE}")
    answer, plan = answer_offer(both, ours(), CODECS)
    assert [media.port for media in answer.media] == [0, 30000]
    assert plan.srtp is not None
    assert plan.remote == ("192.0.2.9", 5000)
    answer, plan = answer_offer(both, ours(OFF), CODECS)
    assert [media.port for media in answer.media] == [30000, 0]


@pytest.mark.parametrize(
    ("caller", "callee", "secure"),
    [
        (OFF, OFF, False),
        (OFF, OFFER, False),
        (OFFER, OFF, False),
        (OFFER, OFFER, True),
        (OFFER, REQUIRE, True),
        (REQUIRE, OFFER, True),
        (REQUIRE, REQUIRE, True),
        (REQUIRE, OFF, None),
        (OFF, REQUIRE, None),
    ],
)
def test_two_ends_agree_on_the_same_keys_or_on_none(
    caller: Security, callee: Security, secure: bool | None
) -> None:
    made = parse(make_offer(ours(caller), CODECS).serialize())
    if secure is None:
        with pytest.raises(NotAcceptableError):
            answer_offer(made, theirs(callee), CODECS)
        return
    answer, far = answer_offer(made, theirs(callee), CODECS)
    near = read_answer(made, parse(answer.serialize()), ours(caller), CODECS)
    if not secure:
        assert near.srtp is far.srtp is None
        return
    assert near.srtp is not None
    assert far.srtp is not None
    assert (near.srtp.send, near.srtp.receive) == (far.srtp.receive, far.srtp.send)
    assert near.srtp.suite is far.srtp.suite


@pytest.mark.parametrize(
    ("security", "find", "put"),
    [
        (REQUIRE, r"a=crypto.*\r\n", ""),
        (REQUIRE, "a=crypto:1", "a=crypto:9"),
        (OFFER, "a=crypto:1", "a=crypto:9"),
        (OFFER, r"(a=crypto.*)\r\n", r"\1|1:4\r\n"),
    ],
    ids=["left-out", "another-tag", "another-tag-where-optional", "unusable"],
)
def test_answers_whose_keys_do_not_fit(security: Security, find: str, put: str) -> None:
    made = make_offer(ours(security), CODECS)
    answer, _ = answer_offer(made, theirs(), CODECS)
    text = re.sub(find, put, answer.serialize().decode())
    with pytest.raises(NotAcceptableError, match="keys"):
        read_answer(made, parse(text.encode()), ours(security), CODECS)


def agreed(line: str = LINE) -> tuple[SessionDescription, AudioPlan]:
    return answer_offer(offer("RTP/SAVP", line), ours(), CODECS)


def test_keys_stay_while_the_far_ends_do() -> None:
    sent, plan = agreed()
    again, later = answer_offer(offer("RTP/SAVP", LINE), ours(), CODECS, previous=sent, plan=plan)
    assert later.srtp == plan.srtp
    assert again == sent, "nothing changed, so no new version"


def test_a_new_key_of_the_far_end_is_answered_with_a_new_one() -> None:
    sent, plan = agreed()
    other = base64.b64encode(bytes(reversed(KEY))).decode()
    line = f"1 AES_CM_128_HMAC_SHA1_80 inline:{other}"
    again, later = answer_offer(offer("RTP/SAVP", line), ours(), CODECS, previous=sent, plan=plan)
    assert plan.srtp is not None
    assert later.srtp is not None
    assert later.srtp.send != plan.srtp.send
    assert again.origin.version == sent.origin.version + 1


def test_our_later_offer_keeps_the_key_in_use() -> None:
    sent, plan = agreed()
    later = make_offer(ours(), CODECS, previous=sent, plan=plan)
    assert plan.srtp is not None
    cryptos = [a for a in later.media[0].attributes if a.name == "crypto"]
    assert [parse_crypto(c.value or "").key for c in cryptos] == [plan.srtp.send]
    assert later.media[0].protocol == "RTP/SAVP"


@given(st.data())
def test_any_readable_offer_is_answered_in_kind_or_refused(data: st.DataObject) -> None:
    raw = bytearray(offer("RTP/SAVP", LINE, LINE.replace("1 ", "2 ", 1)).serialize())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + 1] = data.draw(st.binary(max_size=2))
    security = data.draw(st.sampled_from([OFF, OFFER, REQUIRE]))
    try:
        description = parse(bytes(raw))
        answer, plan = answer_offer(description, ours(security), CODECS)
    except (SdpError, NotAcceptableError):
        return
    media = answer.media[plan.index]
    assert media.protocol == description.media[plan.index].protocol
    assert (media.value("crypto") is None) is (plan.srtp is None)
    if security is REQUIRE or media.protocol.startswith("RTP/SAVP"):
        assert plan.srtp is not None
    if security is OFF:
        assert plan.srtp is None
    assert parse(answer.serialize()) == answer
