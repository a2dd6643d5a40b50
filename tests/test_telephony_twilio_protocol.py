"""Media Streams frames, as documented and as an attacker would write them."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.twilio_frames import ACCOUNT, CALL, CONNECTED, START, STREAM, media, message, started
from ringtrue.telephony.twilio.protocol import (
    MAX_FRAME,
    Audio,
    Connected,
    Digit,
    Ignored,
    MediaStreamProtocol,
    Played,
    Started,
    Stopped,
    TwilioProtocolError,
)


def test_a_stream_as_documented() -> None:
    protocol = MediaStreamProtocol()
    assert protocol.receive(json.dumps(CONNECTED)) == Connected("Call", "1.0.0")
    assert protocol.receive(json.dumps(START)) == Started(
        STREAM, CALL, ACCOUNT, ("inbound",), {"token": "secret"}
    )
    assert protocol.receive(json.dumps(media(b"\x01\x02"))) == Audio(1, 5, b"\x01\x02")
    assert protocol.receive(json.dumps(message("mark", 3, mark={"name": "a"}))) == Played("a")
    dtmf = {"track": "inbound_track", "digit": "#"}
    assert protocol.receive(json.dumps(message("dtmf", 4, dtmf=dtmf))) == Digit("#")
    assert protocol.receive(json.dumps(message("later", 5))) == Ignored("later")
    stop = {"accountSid": ACCOUNT, "callSid": CALL}
    assert protocol.receive(json.dumps(message("stop", 6, stop=stop))) == Stopped(CALL)
    assert protocol.out_of_order == 0


def test_what_it_says_is_what_twilio_documents() -> None:
    protocol = started()
    assert json.loads(protocol.media(b"\x00\x01")) == {
        "event": "media",
        "streamSid": STREAM,
        "media": {"payload": "AAE="},
    }
    assert json.loads(protocol.mark('x"y')) == {
        "event": "mark",
        "streamSid": STREAM,
        "mark": {"name": 'x"y'},
    }
    assert json.loads(protocol.clear()) == {"event": "clear", "streamSid": STREAM}


def test_nothing_can_be_said_before_start() -> None:
    with pytest.raises(ValueError, match="before start"):
        MediaStreamProtocol().media(b"\xff")


def test_gaps_in_the_sequence_are_counted() -> None:
    protocol = started()
    for sequence in (2, 3, 5, 4):
        protocol.receive(json.dumps(message("mark", sequence, mark={"name": "m"})))
    assert protocol.out_of_order == 2


def test_the_other_track_is_ignored() -> None:
    assert started().receive(json.dumps(media(track="outbound"))) == Ignored("media.outbound")


def test_the_token_does_not_show_in_the_repr() -> None:
    protocol = MediaStreamProtocol()
    protocol.receive(json.dumps(CONNECTED))
    assert "secret" not in repr(protocol.receive(json.dumps(START)))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 60_000, "not JSON"),
        ("NaN", "not JSON"),
        ("[]", "JSON list"),
        (" " * (MAX_FRAME + 1), "characters"),
        ("{}", "message.event is missing"),
        (json.dumps({"event": 5}), "message.event is a int"),
        (json.dumps({"event": "x" * 300}), "300 characters"),
        (json.dumps(CONNECTED), "connected twice"),
        (json.dumps(START), "start twice"),
        (json.dumps(message("media")), "message.media is missing"),
        (json.dumps(media() | {"streamSid": "MZ9"}), "not this stream's"),
        (json.dumps(media() | {"sequenceNumber": "-1"}), "sequenceNumber"),
        (json.dumps(media() | {"sequenceNumber": True}), "sequenceNumber"),
        (json.dumps(media(payload="!!")), "not base64"),
        (json.dumps(media(payload="é")), "not base64"),
        (json.dumps(media(payload=7)), "media.payload is a int"),
        (json.dumps(media(payload="")), "0 bytes"),
        (json.dumps(media(b"x" * 8001)), "8001 bytes"),
        (json.dumps(media(chunk="١")), "media.chunk"),
        (json.dumps(media(timestamp=1.5)), "media.timestamp"),
        (json.dumps(message("dtmf", dtmf={"digit": "55"})), "dtmf.digit"),
        (json.dumps(message("dtmf", dtmf=[])), "message.dtmf is a list"),
        (json.dumps(message("mark", mark={"name": None})), "mark.name is missing"),
    ],
)
def test_hostile_frames_are_one_documented_error(frame: str, says: str) -> None:
    with pytest.raises(TwilioProtocolError, match=says):
        started().receive(frame)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"streamSid": 'MZ"},'}, "streamSid is not a Twilio SID"),
        ({"callSid": ""}, "callSid is not"),
        ({"accountSid": 1}, "accountSid is a int"),
        ({"tracks": ["outbound"]}, "lacks 'inbound'"),
        ({"tracks": "inbound"}, "tracks is a str"),
        ({"mediaFormat": {"encoding": "audio/l16", "sampleRate": 8000, "channels": 1}}, "l16"),
        ({"mediaFormat": None}, "mediaFormat is missing"),
        ({"customParameters": {"token": 1}}, "customParameters"),
        ({"customParameters": {str(n): "" for n in range(33)}}, "up to 32"),
    ],
)
def test_a_hostile_start_is_refused(change: dict[str, Any], says: str) -> None:
    protocol = MediaStreamProtocol()
    protocol.receive(json.dumps(CONNECTED))
    with pytest.raises(TwilioProtocolError, match=says):
        protocol.receive(json.dumps(START | {"start": START["start"] | change}))


@pytest.mark.parametrize("event", ["start", "media", "mark", "dtmf", "stop"])
def test_nothing_comes_before_connected(event: str) -> None:
    with pytest.raises(TwilioProtocolError, match="before connected"):
        MediaStreamProtocol().receive(json.dumps(message(event)))


def test_nothing_comes_between_connected_and_start() -> None:
    protocol = MediaStreamProtocol()
    protocol.receive(json.dumps(CONNECTED))
    with pytest.raises(TwilioProtocolError, match="before start"):
        protocol.receive(json.dumps(media()))


def test_nothing_comes_after_stop() -> None:
    protocol = started()
    protocol.receive(json.dumps(message("stop")))
    with pytest.raises(TwilioProtocolError, match="after stop"):
        protocol.receive(json.dumps(media()))


@pytest.mark.parametrize("version", ["2.0.0", "", "x"])
def test_another_protocol_is_refused(version: str) -> None:
    with pytest.raises(TwilioProtocolError, match="allowed: 'Call' version 1"):
        MediaStreamProtocol().receive(json.dumps(CONNECTED | {"version": version}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["track", "chunk", "timestamp", "payload", "name", "digit", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    event=st.sampled_from(["connected", "start", "media", "mark", "dtmf", "stop", "other"]),
    fields=st.dictionaries(
        st.sampled_from(
            ["media", "mark", "dtmf", "stop", "start", "sequenceNumber", "streamSid", "version"]
        ),
        JSON,
        max_size=4,
    ),
)
def test_whatever_comes_only_the_documented_error_leaves(event: str, fields: Any) -> None:
    for protocol in (MediaStreamProtocol(), started()):
        with contextlib.suppress(TwilioProtocolError):
            protocol.receive(json.dumps({"event": event, **fields}))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_at_all(text: str) -> None:
    with contextlib.suppress(TwilioProtocolError):
        started().receive(text)
