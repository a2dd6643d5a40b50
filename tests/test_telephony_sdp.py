"""Session descriptions: what is read, what is written, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.sdp import (
    MAX_BYTES,
    MAX_FORMATS,
    MAX_MEDIA,
    Direction,
    Origin,
    SdpError,
    parse,
)

FULL = b"""v=0\r
o=alice 2890844526 2890842807 IN IP4 203.0.113.5\r
s=Call\r
i=a line nobody needs\r
c=IN IP4 203.0.113.5\r
b=AS:128\r
t=0 0\r
a=tool:test\r
m=audio 49170 RTP/AVP 9 0 8 101\r
c=IN IP4 203.0.113.6/127\r
a=rtpmap:9 G722/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:30\r
a=sendonly\r
m=video 51372 RTP/AVP 31\r
a=rtpmap:31 H261/90000\r
"""


def test_reads_a_full_description() -> None:
    description = parse(FULL)
    assert description.origin == Origin("alice", 2890844526, 2890842807, "203.0.113.5")
    assert description.name == "Call"
    audio, video = description.media
    assert (audio.kind, audio.port, audio.protocol) == ("audio", 49170, "RTP/AVP")
    assert audio.formats == ("9", "0", "8", "101")
    assert description.media_host(audio) == "203.0.113.6"
    assert description.media_host(video) == "203.0.113.5"
    assert description.direction(audio) is Direction.SENDONLY
    assert description.direction(video) is Direction.SENDRECV
    assert audio.rtpmaps()[101].name == "telephone-event"
    assert audio.fmtps() == {101: "0-16"}
    assert audio.value("ptime") == "30"
    assert audio.value("rtcp-mux") is None


def test_writes_what_it_reads() -> None:
    description = parse(FULL)
    assert parse(description.serialize()) == description


def test_bare_line_feeds_and_missing_optional_lines_are_read() -> None:
    description = parse(b"v=0\no=- 1 1 IN IP6 ::1\nc=IN IP6 ::1\nm=audio 4000 RTP/AVP 0\n")
    assert description.media_host(description.media[0]) == "::1"


def test_session_direction_holds_for_every_stream_that_has_none() -> None:
    description = parse(FULL.replace(b"a=tool:test", b"a=inactive"))
    assert [description.direction(m) for m in description.media] == [
        Direction.SENDONLY,
        Direction.INACTIVE,
    ]


def test_a_host_name_is_legal() -> None:
    description = parse(FULL.replace(b"IP4 203.0.113.6/127", b"IP4 media.example.net"))
    assert description.media[0].host == "media.example.net"


def test_rtpmaps_that_cannot_be_read_are_passed_over() -> None:
    broken = FULL.replace(b"a=rtpmap:9 G722/8000", b"a=rtpmap:9\r\na=rtpmap:x y\r\na=rtpmap:3 G/z")
    assert set(parse(broken).media[0].rtpmaps()) == {101}


HOSTILE = {
    "empty": b"",
    "no version": b"o=- 1 1 IN IP4 192.0.2.1\r\n",
    "version 1": b"v=1\r\n",
    "no origin": b"v=0\r\ns=-\r\n",
    "short origin": b"v=0\r\no=- 1 IN IP4 192.0.2.1\r\n",
    "origin not digits": b"v=0\r\no=- x 1 IN IP4 192.0.2.1\r\n",
    "huge origin": b"v=0\r\no=- " + b"9" * 5000 + b" 1 IN IP4 192.0.2.1\r\n",
    "no type": FULL + b"\r\nrubbish\r\n",
    "blank line inside": FULL.replace(b"t=0 0", b"\r\nt=0 0"),
    "port too big": FULL.replace(b"49170", b"70000"),
    "port negative": FULL.replace(b"49170", b"-1"),
    "port in Arabic digits": FULL.replace(b"49170", "٤٩".encode()),
    "no formats": FULL.replace(b"49170 RTP/AVP 9 0 8 101", b"49170 RTP/AVP"),
    "format too big": FULL.replace(b"AVP 9 0", b"AVP 128 0"),
    "format no number": FULL.replace(b"AVP 9 0", b"AVP nine 0"),
    "address of the other family": FULL.replace(b"IP4 203.0.113.6/127", b"IP6 203.0.113.6"),
    "address rubbish": FULL.replace(b"IP4 203.0.113.6/127", b"IP4 20[3.0"),
    "network type": FULL.replace(b"c=IN IP4 203.0.113.5", b"c=ATM IP4 203.0.113.5"),
    "not UTF-8": FULL.replace(b"Call", b"\xff\xfe"),
    "NUL": FULL.replace(b"Call", b"a\0b"),
    "too long": FULL + b"a=" + b"x" * MAX_BYTES,
    "too many streams": FULL + b"m=audio 0 RTP/AVP 0\r\n" * MAX_MEDIA,
    "too many formats": FULL + b"m=audio 0 RTP/AVP" + b" 0" * (MAX_FORMATS + 1) + b"\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_descriptions_are_refused(data: bytes) -> None:
    with pytest.raises(SdpError):
        parse(data)


def test_the_refusal_names_line_and_value() -> None:
    with pytest.raises(SdpError, match="line 9: m= port must be 0-65535: '70000'"):
        parse(FULL.replace(b"49170", b"70000"))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _read(data)
    _read(b"v=0\r\n" + data)


@given(st.data())
def test_mutated_descriptions_are_read_or_refused(data: st.DataObject) -> None:
    mutated = bytearray(FULL)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    _read(bytes(mutated))


def _read(data: bytes) -> None:
    try:
        description = parse(data)
    except SdpError:
        return
    for media in description.media:
        media.rtpmaps()
        media.fmtps()
        description.direction(media)
    # our own reading of what we write must agree, whatever was accepted
    again = parse(description.serialize())
    assert [m.formats for m in again.media] == [m.formats for m in description.media]
