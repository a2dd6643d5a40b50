"""SIP and SDP from strangers."""

from __future__ import annotations

import contextlib
import random
from itertools import count

from ringtrue.telephony import sdp
from ringtrue.telephony.codecs import CODECS
from ringtrue.telephony.offer_answer import Local, NotAcceptableError, answer_offer
from ringtrue.telephony.sdes import Security, SrtpMode
from ringtrue.telephony.sdp import SdpError
from ringtrue.telephony.sip.digest import parse_challenge, parse_credentials
from ringtrue.telephony.sip.errors import SipError, SipParseError
from ringtrue.telephony.sip.events import IncomingInvite, Referred
from ringtrue.telephony.sip.headers import (
    parse_call_id,
    parse_cseq,
    parse_name_addr,
    parse_params,
    parse_via,
)
from ringtrue.telephony.sip.message import Request, parse_message, parse_target
from ringtrue.telephony.sip.replaces import parse_replaces, replaced_by
from ringtrue.telephony.sip.stream import StreamFramer
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.ua import UserAgent
from ringtrue.telephony.sip.uri import parse_host_port, parse_uri

__all__ = ["NotAcceptableError", "SdpError", "SipParseError"]

SEPARATOR = b"\n%%\n"
"""Between the datagrams of one input."""

OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 9 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\na=rtcp:40001\r\n"
)
SECURE = (
    b"v=0\r\no=- 1 1 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:db8::7\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/SAVP 96 0\r\na=rtpmap:96 opus/48000/2\r\n"
    b"a=fmtp:96 useinbandfec=1;maxplaybackrate=16000\r\na=rtcp-mux\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"
    b"d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20\r\n"
    b"m=video 0 RTP/AVP 34\r\n"
)
DESCRIPTIONS = (OFFER, SECURE)


def _request(
    method: str, number: int, body: bytes = b"", *, to_tag: str = "", more: str = ""
) -> bytes:
    invite = method in ("INVITE", "ACK", "CANCEL")
    branch = "z9hG4bKinvite" if invite and number == 1 else f"z9hG4bK{method}{number}"
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:agent@192.0.2.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.7:5060;branch={branch};rport\r\nMax-Forwards: 70\r\n"
        f'From: "A" <sip:a@192.0.2.7>;tag=far\r\nTo: <sip:agent@192.0.2.1>{to_tag}\r\n'
        f"Call-ID: one@192.0.2.7\r\nCSeq: {number} {method}\r\nContact: <sip:a@192.0.2.7:5060>\r\n"
        f"Supported: timer, 100rel\r\n{more}{kind}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


_TAG = ";tag=t1"
RESPONSE = (
    b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\n"
    b"From: <sip:b@192.0.2.1>;tag=t9\r\nTo: <sip:a@192.0.2.7>;tag=far\r\nCall-ID: two\r\n"
    b"CSeq: 1 INVITE\r\nRetry-After: 5\r\nContact: <sip:a@192.0.2.7;transport=tcp>;expires=60\r\n"
    b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256\r\n'
    b"Content-Length: 0\r\n\r\n"
)
MESSAGES = (_request("INVITE", 1, OFFER), _request("BYE", 2, to_tag=_TAG), RESPONSE)
STREAMS = (b"\r\n\r\n".join(MESSAGES), _request("OPTIONS", 1) * 2)
CALLS = (
    SEPARATOR.join(
        [
            _request("INVITE", 1, OFFER),
            _request("ACK", 1, to_tag=_TAG),
            _request("INVITE", 2, SECURE, to_tag=_TAG, more="Session-Expires: 90\r\n"),
            _request("ACK", 2, to_tag=_TAG),
            _request("UPDATE", 3, OFFER, to_tag=_TAG),
            _request("INFO", 4, to_tag=_TAG),
            _request("BYE", 5, to_tag=_TAG),
        ]
    ),
    SEPARATOR.join(
        [
            _request("INVITE", 1, OFFER),
            _request("ACK", 1, to_tag=_TAG),
            _request(
                "REFER",
                2,
                to_tag=_TAG,
                more="Refer-To: <sip:b@192.0.2.9?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n",
            ),
            _request("INVITE", 3, OFFER, more="Replaces: one@192.0.2.7;to-tag=t1;from-tag=far\r\n"),
        ]
    ),
    SEPARATOR.join([_request("INVITE", 1), _request("CANCEL", 1), RESPONSE]),
    SEPARATOR.join([_request("OPTIONS", 1), _request("REGISTER", 2), _request("REFER", 3)]),
)
HEADERS = (
    b'"A \\"B\\"" <sip:a:b@[2001:db8::1]:5060;transport=tcp?subject=x>;tag=1;q=0.5',
    b"SIP/2.0/TLS host.example:5061;branch=z9hG4bK1;received=192.0.2.1;rport=9",
    b'Digest realm="a", nonce="b", qop="auth,auth-int", algorithm=SHA-512-256, stale=true',
    b'Digest username="u", realm="a", nonce="b", uri="sip:a", response="00", nc=00000001, '
    b'cnonce="c", qop=auth',
    b"17 INVITE",
    b"tel:+15550100;phone-context=example.com",
    b"one@192.0.2.7;to-tag=1;from-tag=2;early-only",
    b"sip:b@192.0.2.9?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D%ff&Subject=y",
)


def message(data: bytes) -> None:
    """One datagram; what was parsed can be read and written."""
    parsed = parse_message(data)
    for name in ("via", "from_", "to", "call_id", "cseq", "cseq_method", "contact"):
        with contextlib.suppress(SipParseError):
            getattr(parsed, name)
    _ = (parsed.record_route, parsed.content_type, parsed.retry_after)
    again = parse_message(parsed.encode())
    assert isinstance(again, Request) == isinstance(parsed, Request)
    assert again.body == parsed.body


def stream(data: bytes) -> None:
    """A connection's bytes in pieces, whole messages parsed."""
    framer = StreamFramer()
    size = 1 + (data[0] if data else 0)
    for start in range(0, len(data), size):
        framer.feed(data[start : start + size])
        while (whole := framer.next()) is not None:
            with contextlib.suppress(SipParseError):
                parse_message(whole, stream=True)


def headers(data: bytes) -> None:
    """Every reader of a header's value."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (
        parse_name_addr,
        parse_via,
        parse_cseq,
        parse_call_id,
        parse_params,
        parse_uri,
        parse_host_port,
        parse_target,
        parse_challenge,
        parse_credentials,
        parse_replaces,
        lambda text: replaced_by(parse_uri(text)),
    ):
        with contextlib.suppress(SipParseError):
            read(text)


def agent(data: bytes) -> None:
    """Datagrams at a user agent that accepts every call; its timers run to their end."""
    tokens = count(1)
    ua = UserAgent(
        lambda hop: ("192.0.2.1", 5060), token=lambda: f"t{next(tokens)}", rng=random.Random(1)
    )
    now = 0.0
    for datagram in data.split(SEPARATOR)[:32]:
        now += 0.1
        ua.receive(datagram, Hop("udp", "192.0.2.7", 5060), now)
        for event in ua.events():
            if isinstance(event, IncomingInvite):
                with contextlib.suppress(SipError):
                    ua.accept(event.call, OFFER, now)
                    if event.replaces is not None:
                        ua.bye(event.replaces, now)
            elif isinstance(event, Referred):
                referees = ua.established(event.call).referees
                referees.accept(now)
                referees.tell(200, "OK", now)
        ua.outputs()
    for _ in range(200):
        due = ua.next_timer()
        if due is None:
            break
        now = max(now, due)
        ua.handle_timer(now)
        ua.events()
        ua.outputs()


def description(data: bytes) -> None:
    """An offer, answered; the answer can be read again."""
    offer = sdp.parse(data)
    host = "2001:db8::1" if b" IP6 " in data else "192.0.2.1"
    local = Local(host, 30000, 30001, 7, security=Security(SrtpMode.OFFER))
    answer, _ = answer_offer(offer, local, CODECS)
    sdp.parse(answer.serialize())
