"""Carriers' websockets, callbacks and signatures, tokens and candidates, from strangers."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from peers.carriers import PHONES, PLIVO
from ringtrue.telephony.carriers import signatures, wires
from ringtrue.telephony.media_streams.wire import Message, StreamError
from ringtrue.telephony.twilio.status import CallbackError, read_update
from ringtrue.telephony.webrtc.access import AccessTokens, TokenError
from ringtrue.telephony.webrtc.candidates import FragmentError, parse_fragment

__all__ = ["CallbackError", "FragmentError", "StreamError", "TokenError"]

BEGIN = (
    lambda receive: wires.begin_telnyx(receive, api_key=None),
    lambda receive: wires.begin_plivo(receive, auth_id=PLIVO[0], auth_token=PLIVO[1]),
    lambda receive: wires.begin_exotel(receive, rate=8000),
    lambda receive: wires.begin_vonage(receive, rate=16000),
    wires.begin_genesys,
)


def _seed(number: int) -> bytes:
    phone = PHONES[number]()
    said = [*phone.start(), phone.audio(bytes(32)), phone.key("5"), phone.end()]
    return f"{number}".encode() + "\n".join(t for t in said if isinstance(t, str)).encode()


CARRIERS = tuple(_seed(number) for number in range(len(PHONES)))
NOW = 1_700_000_000.0
ACCESS = (AccessTokens(b"k" * 32).mint("demo", "default", now=NOW, ttl=60)[0].encode(),)
FRAGMENTS = (
    b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"
    b"a=mid:0\r\na=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
    b"a=end-of-candidates\r\n",
)
CALLBACKS = (
    b"CallSid=CA" + b"0" * 32 + b"&CallStatus=ringing&SequenceNumber=1",
    b"CallSid=CA" + b"0" * 32 + b"&CallStatus=busy&SipResponseCode=603",
    b"CallSid=CA" + b"0" * 32 + b"&AnsweredBy=machine_start",
)
SIGNED = (
    b'sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
    b'"audiohook-correlation-id" "x-api-key");keyid="k";nonce="0123456789012345678901";'
    b'created=1700000000;alg="hmac-sha256"\nsig1=:AAAA:',
)


def carriers(data: bytes) -> None:
    """A stream's messages, one a line, behind the number of its carrier."""
    number, lines = data[:1], data[1:].decode("utf-8", "replace").split("\n")

    async def go() -> None:
        messages = iter(lines)

        async def receive() -> Message:
            try:
                return next(messages)
            except StopIteration:
                raise StreamError("no more") from None

        begun = await BEGIN[((number or b"0")[0] - ord("0")) % len(BEGIN)](receive)
        await begun.wire.begin()
        for line in messages:
            await begun.wire.receive(line)
            if begun.wire.binary:
                await begun.wire.receive(line.encode()[:1000] * 2)

    asyncio.run(go())


def access(data: bytes) -> None:
    """A token that a page shows."""
    AccessTokens(b"k" * 32).redeem(data.decode("utf-8", "replace"), now=NOW, origin=None)


def fragment(data: bytes) -> None:
    """Candidates that a page sends."""
    parse_fragment(data.decode("utf-8", "replace"))


def callback(data: bytes) -> None:
    """A callback of Twilio's, its signature believed."""
    read_update(dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)))


def signed(data: bytes) -> None:
    """A websocket request that says Genesys signed it, and a webhook that says Telnyx did."""
    listed, _, shown = data.decode("utf-8", "replace").partition("\n")
    headers = {"signature-input": listed, "signature": shown, "x-api-key": "k", "host": "h"}
    nonces = signatures.Nonces(10.0)
    assert not signatures.genesys(headers, "/", b"secret", nonces, NOW)
    stamped = {"telnyx-timestamp": shown, "telnyx-signature-ed25519": listed}
    assert not signatures.telnyx(stamped, data, bytes(32), NOW)
    assert not signatures.vonage(f"Bearer {listed}", data, "s" * 32, None, NOW)
    assert not signatures.basic(listed, "user", "password")
