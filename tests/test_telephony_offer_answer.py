"""Offer and answer: what is agreed on, refused, held and kept (RFC 3264)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.codecs import CODECS, G722, OPUS, PCMA, PCMU
from ringtrue.telephony.codecs.comfort_noise import CN
from ringtrue.telephony.offer_answer import (
    AudioPlan,
    Local,
    NotAcceptableError,
    answer_offer,
    make_offer,
    read_answer,
)
from ringtrue.telephony.sdp import Direction, RtpMap, SdpError, SessionDescription, parse

LOCAL = Local("198.51.100.1", 30000, 30001, 42)
LOCAL6 = Local("2001:db8::1", 30000, 30001, 42)


def offered(
    formats: str = "0 8 101",
    *,
    attributes: str = "a=rtpmap:101 telephone-event/8000",
    host: str = "IP4 192.0.2.9",
    port: int = 4000,
    before: str = "",
    after: str = "",
) -> SessionDescription:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.9",
        "s=-",
        f"c=IN {host}",
        "t=0 0",
        *before.split("\n"),
        f"m=audio {port} RTP/AVP {formats}",
        *attributes.split("\n"),
        *after.split("\n"),
    ]
    return parse("\r\n".join(line for line in lines if line).encode())


def test_the_answer_keeps_the_offerers_order_and_payload_types() -> None:
    offer = offered("8 18 96 9 0", attributes="a=rtpmap:96 telephone-event/8000")
    answer, plan = answer_offer(offer, LOCAL, CODECS)
    assert answer.media[0].formats == ("8", "9", "0", "96")
    assert plan.codec is PCMA
    assert plan.payload_type == 8
    assert plan.receive == {8: PCMA, 9: G722, 0: PCMU}
    assert plan.event_type == 96
    assert plan.remote == ("192.0.2.9", 4000)
    assert plan.remote_rtcp == ("192.0.2.9", 4001)
    assert answer.media[0].port == 30000
    assert answer.host == "198.51.100.1"


def test_only_configured_codecs_are_answered() -> None:
    answer, plan = answer_offer(offered("9 0 8"), LOCAL, (PCMU,))
    assert answer.media[0].formats == ("0",)
    assert plan.codec is PCMU
    assert plan.event_type is None


def test_static_types_need_no_rtpmap_and_dynamic_ones_are_read_by_name() -> None:
    maps = "a=rtpmap:97 pcmu/8000/1\na=rtpmap:98 PCMU/16000\na=rtpmap:99 PCMA/8000/2"
    _, plan = answer_offer(offered("98 99 97 0", attributes=maps), LOCAL, CODECS)
    assert plan.receive == {97: PCMU, 0: PCMU}


def test_an_rtpmap_overrules_the_static_meaning() -> None:
    with pytest.raises(NotAcceptableError):
        answer_offer(offered("0", attributes="a=rtpmap:0 FOO/8000"), LOCAL, CODECS)


def test_events_of_the_audio_clock_are_chosen() -> None:
    maps = "a=rtpmap:100 telephone-event/48000\na=rtpmap:101 telephone-event/8000"
    _, plan = answer_offer(offered("0 100 101", attributes=maps), LOCAL, CODECS)
    assert plan.event_type == 101


def test_opus_is_offered_and_answered_with_its_channels_and_parameters() -> None:
    offer = make_offer(LOCAL, CODECS)
    lines = offer.serialize().decode()
    assert "a=rtpmap:111 opus/48000/2" in lines
    assert "a=fmtp:111 minptime=10;useinbandfec=1;stereo=0;" in lines
    assert "a=rtpmap:102 telephone-event/48000" in lines
    maps = "a=rtpmap:96 OPUS/48000/2\na=fmtp:96 useinbandfec=1;maxaveragebitrate=20000"
    answer, plan = answer_offer(offered("96 0", attributes=maps), LOCAL, CODECS)
    assert plan.codec is OPUS.tuned("maxaveragebitrate=20000;useinbandfec=1")
    assert plan.receive[96].decoder is OPUS.decoder
    assert answer.media[0].rtpmaps()[96] == RtpMap("opus", 48000, 2)
    for wrong in ("opus/48000", "opus/16000/2"):
        with pytest.raises(NotAcceptableError):
            answer_offer(offered("96", attributes=f"a=rtpmap:96 {wrong}"), LOCAL, CODECS)


def test_events_in_another_clock_than_the_audios_are_better_than_none() -> None:
    maps = "a=rtpmap:96 opus/48000/2\na=rtpmap:101 telephone-event/8000"
    answer, plan = answer_offer(offered("96 101", attributes=maps), LOCAL, CODECS)
    assert plan.event_type == 101
    assert answer.media[0].formats == ("96", "101")
    again = make_offer(LOCAL, CODECS, previous=answer, plan=plan)
    assert again.media[0].rtpmaps()[101] == RtpMap("telephone-event", 8000)


def test_comfort_noise_is_answered_where_wanted() -> None:
    quiet = replace(LOCAL, comfort_noise=True)
    answer, plan = answer_offer(offered("0 13 101"), quiet, CODECS)
    assert answer.media[0].formats == ("0", "13", "101")
    assert plan.noise_type == 13
    assert plan.receive[13] is CN
    assert plan.codec is PCMU
    answer, plan = answer_offer(offered("0 13 101"), LOCAL, CODECS)
    assert answer.media[0].formats == ("0", "101")
    with pytest.raises(NotAcceptableError, match="no common codec"):
        answer_offer(offered("13"), quiet, CODECS)
    ours = make_offer(quiet, (OPUS,))
    assert "13" not in ours.media[0].formats, "its clock is not Opus's"


def test_the_sources_a_description_names_are_known() -> None:
    lines = "a=ssrc:1234 cname:x\na=ssrc:1234 label:1\na=ssrc:4294967296 cname:y\na=ssrc:x"
    _, plan = answer_offer(offered("0", attributes=lines), LOCAL, CODECS)
    assert plan.remote_ssrcs == {1234}
    _, plan = answer_offer(offered("0"), LOCAL, CODECS)
    assert plan.remote_ssrcs == frozenset()


def test_our_order_of_codecs_where_configured() -> None:
    own = replace(LOCAL, own_order=True)
    answer, plan = answer_offer(offered("8 0 9"), own, (G722, PCMU, PCMA))
    assert answer.media[0].formats == ("9", "0", "8")
    assert plan.codec is G722


def test_reports_on_the_media_port_are_offered_where_configured() -> None:
    mux = replace(LOCAL, rtcp_mux=True)
    offer = make_offer(mux, (PCMU,))
    assert offer.media[0].value("rtcp-mux") == ""
    answer = offered("0", attributes="a=rtcp-mux")
    assert read_answer(offer, answer, mux, (PCMU,)).remote_rtcp == ("192.0.2.9", 4000)
    assert not read_answer(offer, offered("0"), mux, (PCMU,)).rtcp_mux
    unasked = read_answer(make_offer(LOCAL, (PCMU,)), answer, LOCAL, (PCMU,))
    assert not unasked.rtcp_mux, "an answer can't bring it in (RFC 5761 §5.1.1)"


@pytest.mark.parametrize(
    ("attribute", "host", "theirs_to_ours"),
    [
        ("", "IP4 192.0.2.9", Direction.SENDRECV),
        ("a=sendrecv", "IP4 192.0.2.9", Direction.SENDRECV),
        ("a=sendonly", "IP4 192.0.2.9", Direction.RECVONLY),
        ("a=recvonly", "IP4 192.0.2.9", Direction.SENDONLY),
        ("a=inactive", "IP4 192.0.2.9", Direction.INACTIVE),
        ("", "IP4 0.0.0.0", Direction.RECVONLY),
        ("a=inactive", "IP4 0.0.0.0", Direction.INACTIVE),
    ],
)
def test_directions_and_both_styles_of_hold(
    attribute: str, host: str, theirs_to_ours: Direction
) -> None:
    answer, plan = answer_offer(offered("0", attributes=attribute, host=host), LOCAL, CODECS)
    assert plan.direction is theirs_to_ours
    assert answer.direction(answer.media[0]) is theirs_to_ours
    assert (plan.remote is None) == host.endswith("0.0.0.0")


def test_ipv6_and_its_hold() -> None:
    _, plan = answer_offer(offered("0", host="IP6 2001:db8::9"), LOCAL6, CODECS)
    assert plan.remote == ("2001:db8::9", 4000)
    for hold in ("IP6 ::", "IP6 hold.invalid"):
        _, plan = answer_offer(offered("0", host=hold), LOCAL6, CODECS)
        assert plan.remote is None


def test_every_other_stream_is_refused_in_place() -> None:
    offer = offered(
        "0",
        before="m=video 5000 RTP/AVP 31\nm=audio 6000 RTP/SAVP 0",
        after="m=audio 7000 RTP/AVP 0\nm=application 8000 udp wb",
    )
    answer, plan = answer_offer(offer, LOCAL, CODECS)
    assert plan.index == 2
    assert [m.port for m in answer.media] == [0, 0, 30000, 0, 0]
    assert [m.protocol for m in answer.media] == [m.protocol for m in offer.media]
    assert answer.media[4].formats == ("wb",)


def test_rtcp_attributes() -> None:
    _, plan = answer_offer(offered("0", attributes="a=rtcp:5005"), LOCAL, CODECS)
    assert plan.remote_rtcp == ("192.0.2.9", 5005)
    line = "a=rtcp:5005 IN IP4 192.0.2.10"
    _, plan = answer_offer(offered("0", attributes=line), LOCAL, CODECS)
    assert plan.remote_rtcp == ("192.0.2.10", 5005)
    answer, plan = answer_offer(offered("0", attributes="a=rtcp-mux"), LOCAL, CODECS)
    assert plan.remote_rtcp == ("192.0.2.9", 4000)
    assert answer.media[0].value("rtcp-mux") == ""
    for unusable in ("a=rtcp:99999", "a=rtcp:5 IN IP4 239.1.1.1"):
        _, plan = answer_offer(offered("0", attributes=unusable), LOCAL, CODECS)
        assert plan.remote_rtcp is None


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (offered("18 3"), "no common codec; supported: opus, G722, PCMU, PCMA"),
        (offered("101"), "no common codec"),
        (offered("0", port=0), "no audio stream offered"),
        (offered("0", host="IP4 239.1.2.3"), "not unicast"),
        (offered("0", host="IP4 255.255.255.255"), "not unicast"),
        (offered("0", host="IP4 media.example.net"), "host name"),
        (offered("0", host="IP6 2001:db8::9"), "IPv6"),
    ],
)
def test_what_cannot_be_used_is_not_acceptable(offer: SessionDescription, why: str) -> None:
    with pytest.raises(NotAcceptableError, match=why):
        answer_offer(offer, LOCAL, CODECS)


def test_only_srtp_offered_is_not_acceptable() -> None:
    offer = parse(offered("0").serialize().replace(b"RTP/AVP", b"RTP/SAVP"))
    with pytest.raises(NotAcceptableError, match="RTP/AVP"):
        answer_offer(offer, LOCAL, CODECS)


def test_a_stream_without_address_is_an_error() -> None:
    offer = parse(offered("0").serialize().replace(b"c=IN IP4 192.0.2.9\r\n", b""))
    with pytest.raises(SdpError, match="no c= line"):
        answer_offer(offer, LOCAL, CODECS)


def test_our_offer_is_answered_by_ourselves() -> None:
    far = Local("192.0.2.9", 4000, 4001, 7)
    offer = make_offer(LOCAL, CODECS)
    assert offer.media[0].formats == ("111", "9", "0", "8", "102", "101")
    answer, theirs = answer_offer(offer, far, (PCMA, PCMU))
    ours = read_answer(offer, answer, LOCAL, CODECS)
    assert ours.codec is theirs.codec is PCMU
    assert ours.remote == ("192.0.2.9", 4000)
    assert theirs.remote == ("198.51.100.1", 30000)
    assert ours.event_type == theirs.event_type == 101


def test_an_answer_with_its_own_payload_types_is_followed_both_ways() -> None:
    offer = make_offer(LOCAL, (PCMU,))
    answer = offered("0 97", attributes="a=rtpmap:97 telephone-event/8000")
    plan = read_answer(offer, answer, LOCAL, (PCMU,))
    assert plan.event_type == 97
    assert plan.receive_events == {97, 101}


@pytest.mark.parametrize(
    "answer",
    [
        offered("0", port=0),
        offered("3"),
        offered("0", after="m=video 0 RTP/AVP 31"),
        parse(offered("0").serialize().replace(b"m=audio", b"m=video")),
    ],
)
def test_answers_that_agree_on_nothing(answer: SessionDescription) -> None:
    with pytest.raises(NotAcceptableError):
        read_answer(make_offer(LOCAL, CODECS), answer, LOCAL, CODECS)


def agreed(formats: str = "0 8 101") -> tuple[SessionDescription, AudioPlan]:
    return answer_offer(offered(formats, before="m=video 5000 RTP/AVP 31"), LOCAL, CODECS)


def test_the_version_rises_only_when_something_changed() -> None:
    sent, plan = agreed()
    same = offered("0 8 101", before="m=video 5000 RTP/AVP 31")
    again, _ = answer_offer(same, LOCAL, CODECS, previous=sent, plan=plan)
    assert again == sent
    hold = offered(
        "0 8 101",
        attributes="a=rtpmap:101 telephone-event/8000\na=sendonly",
        before="m=video 5000 RTP/AVP 31",
    )
    held, held_plan = answer_offer(hold, LOCAL, CODECS, previous=sent, plan=plan)
    assert held.origin.version == sent.origin.version + 1
    assert held.origin.session_id == sent.origin.session_id
    back, _ = answer_offer(same, LOCAL, CODECS, previous=held, plan=held_plan)
    assert back.origin.version == sent.origin.version + 2


def test_our_later_offer_keeps_streams_and_payload_types() -> None:
    sent, plan = agreed("8 96")
    offer = make_offer(LOCAL, CODECS, previous=sent, plan=plan)
    assert [m.port for m in offer.media] == [0, 30000]
    assert offer.media[1].formats[0] == "8"
    assert set(offer.media[1].formats) == {"8", "9", "0", "111", "101", "102"}
    assert offer.origin.version == sent.origin.version + 1


def test_a_later_offer_may_not_drop_streams() -> None:
    sent, plan = agreed()
    with pytest.raises(NotAcceptableError, match="fewer"):
        answer_offer(offered("0"), LOCAL, CODECS, previous=sent, plan=plan)


def test_the_stream_in_use_stays_in_use() -> None:
    sent, plan = agreed()
    two = offered("0", before="m=audio 5000 RTP/AVP 0")
    answer, later = answer_offer(two, LOCAL, CODECS, previous=sent, plan=plan)
    assert later.index == plan.index == 1
    assert [m.port for m in answer.media] == [0, 30000]


@given(st.data())
def test_any_readable_offer_is_answered_or_refused(data: st.DataObject) -> None:
    raw = bytearray(
        offered("8 0 96", attributes="a=rtpmap:96 telephone-event/8000\na=rtcp:9").serialize()
    )
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + 1] = data.draw(st.binary(max_size=2))
    try:
        offer = parse(bytes(raw))
        answer, plan = answer_offer(offer, LOCAL, CODECS)
    except (SdpError, NotAcceptableError):
        return
    assert len(answer.media) == len(offer.media)
    assert [m.kind for m in answer.media] == [m.kind for m in offer.media]
    assert sum(m.port != 0 for m in answer.media) == 1
    assert plan.payload_type in plan.receive
    assert parse(answer.serialize()) == answer
