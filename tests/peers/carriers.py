"""Each carrier's side of a stream, as its documentation describes the wire.

A phone calls the webhook as the carrier does, opens the websocket it is told, and then sends and
takes the carrier's own messages. What it hears is 16-bit PCM at its rate.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import warnings
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

CALLER, DIALLED = "+12015550123", "+12015550100"
TELNYX_KEY = Ed25519PrivateKey.generate()
PLIVO = ("MAXXXXXXXXXXXXXXXXXX", "plivo-token")
EXOTEL = ("exotel-key", "exotel-token")
VONAGE = "a-signature-secret-of-32-characters"
GENESYS = ("genesys-key", b"a client secret of some length")

SETTINGS: dict[str, Any] = {
    "telnyx": {
        "enabled": True,
        "public_key": base64.b64encode(
            TELNYX_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        ).decode(),
        "api_key": "KEY0123",
    },
    "plivo": {"enabled": True, "auth_id": PLIVO[0], "auth_token": PLIVO[1]},
    "exotel": {"enabled": True, "api_key": EXOTEL[0], "api_token": EXOTEL[1]},
    "vonage": {"enabled": True, "signature_secret": VONAGE, "api_key": "abcd1234"},
    "genesys": {
        "enabled": True,
        "api_key": GENESYS[0],
        "client_secret": base64.b64encode(GENESYS[1]).decode(),
    },
}


class Phone(ABC):
    """One call."""

    name = ""
    rate = 8000
    marks = True
    told = True
    """Whether the carrier tells who calls."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.clears = 0
        self.returned: list[str] = []
        self.said: list[Any] = []
        """Messages of other kinds."""

        self.headers: dict[str, str] = {}
        self.chunk = 0

    @abstractmethod
    async def ring(self, base: str) -> str:
        """The websocket's URL, from the webhook at ``base``."""

    @abstractmethod
    def start(self) -> list[str]:
        """The first messages."""

    @abstractmethod
    def audio(self, pcm: bytes) -> str | bytes:
        """One message of caller audio."""

    @abstractmethod
    def key(self, digit: str) -> str:
        """A key was pressed."""

    @abstractmethod
    def take(self, message: str | bytes) -> list[str]:
        """Take a message of the server's; what to say to it."""

    def end(self) -> str | None:
        """The last message; None where the websocket is just closed."""
        return None

    def next_chunk(self) -> int:
        self.chunk += 1
        return self.chunk

    def back(self, name: str, message: dict[str, Any]) -> list[str]:
        self.returned.append(name)
        return [json.dumps(message)]


async def _asked(method: str, url: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, url, **options)
    answer.raise_for_status()
    return answer


class Numbered(Phone):
    """One whose messages say their running number and the stream's id."""

    stream = ""
    names = ("sequence_number", "stream_id")
    number: type[str] | type[int] = str

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 1

    def numbered(self, event: str, **rest: Any) -> dict[str, Any]:
        self.sequence += 1
        of_sequence, of_stream = self.names
        return {
            "event": event,
            of_sequence: self.number(self.sequence),
            of_stream: self.stream,
            **rest,
        }


class Telnyx(Numbered):
    name = "telnyx"
    stream = "22222222-3333-4444-5555-666666666666"

    def signed(self, body: bytes) -> dict[str, str]:
        stamp = str(int(time.time()))
        signature = TELNYX_KEY.sign(stamp.encode() + b"|" + body)
        return {
            "content-type": "application/x-www-form-urlencoded",
            "telnyx-timestamp": stamp,
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }

    async def ring(self, base: str) -> str:
        form = {"CallSid": "v3:call", "From": CALLER, "To": DIALLED, "CallStatus": "ringing"}
        body = urlencode(form).encode()
        url = f"{base}/telnyx/voice"
        answer = await _asked("POST", url, content=body, headers=self.signed(body))
        stream = ElementTree.fromstring(answer.text).find("Connect/Stream")
        assert stream is not None
        assert stream.attrib["bidirectionalMode"] == "rtp"
        assert stream.attrib["bidirectionalCodec"] == "PCMU"
        return stream.attrib["url"]

    def start(self) -> list[str]:
        start = {
            "user_id": "3e6f995f-85f7-4705-9741-53b116d28237",
            "call_control_id": "v3:call",
            "from": CALLER,
            "to": DIALLED,
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        }
        return [
            json.dumps({"event": "connected", "version": "1.0.0"}),
            json.dumps(self.numbered("start", start=start)),
        ]

    def audio(self, pcm: bytes) -> str:
        media = {
            "track": "inbound",
            "chunk": str(self.next_chunk()),
            "timestamp": str(self.chunk * 20),
            "payload": base64.b64encode(audioop.lin2ulaw(pcm, 2)).decode(),
        }
        return json.dumps(self.numbered("media", media=media))

    def key(self, digit: str) -> str:
        return json.dumps(self.numbered("dtmf", dtmf={"digit": digit}))

    def take(self, message: str | bytes) -> list[str]:
        content = json.loads(message)
        match content["event"]:
            case "media":
                ulaw = base64.b64decode(content["media"]["payload"])
                self.heard += audioop.ulaw2lin(ulaw, 2)
            case "clear":
                self.clears += 1
            case "mark":
                mark = content["mark"]
                return self.back(mark["name"], self.numbered("mark", mark=mark))
            case other:
                raise AssertionError(f"Telnyx knows no {other!r}")
        return []

    def end(self) -> str:
        stop = {"user_id": "3e6f995f", "call_control_id": "v3:call"}
        return json.dumps(self.numbered("stop", stop=stop))


class Plivo(Numbered):
    name = "plivo"
    stream = "87654321-4321-4321-4321-cba987654321"
    names = ("sequenceNumber", "streamId")
    number = int

    def signed(self, url: str, form: dict[str, str]) -> dict[str, str]:
        nonce = secrets.token_hex(8)
        base = f"{url}?" + "".join(f"{key}{form[key]}" for key in sorted(form))
        mac = hmac.digest(PLIVO[1].encode(), f"{base}.{nonce}".encode(), hashlib.sha256)
        return {
            "X-Plivo-Signature-V3": f"other,{base64.b64encode(mac).decode()}",
            "X-Plivo-Signature-V3-Nonce": nonce,
        }

    async def ring(self, base: str) -> str:
        url = f"{base}/plivo/voice"
        form = {"CallUUID": "1234", "From": CALLER, "To": DIALLED, "CallStatus": "ringing"}
        answer = await _asked("POST", url, data=form, headers=self.signed(url, form))
        stream = ElementTree.fromstring(answer.text).find("Stream")
        assert stream is not None
        assert stream.attrib == {
            "bidirectional": "true",
            "keepCallAlive": "true",
            "contentType": "audio/x-mulaw;rate=8000",
        }
        return stream.text or ""

    def start(self) -> list[str]:
        start = {
            "callId": "12345678-1234-1234-1234-123456789abc",
            "streamId": self.stream,
            "accountId": PLIVO[0],
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        first = {"event": "start", "sequenceNumber": 1, "start": start, "extra_headers": ""}
        return [json.dumps(first)]

    def audio(self, pcm: bytes) -> str:
        media = {
            "track": "inbound",
            "timestamp": str(1705312200000 + 20 * self.chunk),
            "chunk": self.next_chunk(),
            "payload": base64.b64encode(audioop.lin2ulaw(pcm, 2)).decode(),
        }
        return json.dumps(self.numbered("media", media=media))

    def key(self, digit: str) -> str:
        dtmf = {"track": "inbound", "digit": digit, "timestamp": "1705312200500"}
        return json.dumps(self.numbered("dtmf", dtmf=dtmf))

    def take(self, message: str | bytes) -> list[str]:
        content = json.loads(message)
        assert content["streamId"] == self.stream
        match content["event"]:
            case "playAudio":
                assert content["media"]["contentType"] == "audio/x-mulaw"
                assert content["media"]["sampleRate"] == 8000
                ulaw = base64.b64decode(content["media"]["payload"])
                self.heard += audioop.ulaw2lin(ulaw, 2)
            case "clearAudio":
                self.clears += 1
                return [json.dumps(self.numbered("clearedAudio"))]
            case "checkpoint":
                name = content["name"]
                return self.back(name, self.numbered("playedStream", name=name))
            case other:
                raise AssertionError(f"Plivo knows no {other!r}")
        return []


class Exotel(Numbered):
    name = "exotel"
    stream = "MZ" + "e" * 24
    names = ("sequence_number", "stream_sid")

    async def ring(self, base: str) -> str:
        query = {"CallSid": "e1", "CallFrom": CALLER, "CallTo": DIALLED}
        answer = await _asked("GET", f"{base}/exotel/voice", params=query, auth=EXOTEL)
        url = str(answer.json()["url"])
        assert url.endswith("?sample-rate=8000")
        return url

    def start(self) -> list[str]:
        start = {
            "stream_sid": self.stream,
            "call_sid": "CA" + "e" * 24,
            "account_sid": "AC" + "e" * 24,
            "from": CALLER,
            "to": DIALLED,
            "custom_parameters": {},
            "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
        }
        return [
            json.dumps({"event": "connected"}),
            json.dumps(self.numbered("start", start=start)),
        ]

    def audio(self, pcm: bytes) -> str:
        media = {
            "chunk": str(self.next_chunk()),
            "timestamp": str(self.chunk * 20),
            "payload": base64.b64encode(pcm).decode(),
        }
        return json.dumps(self.numbered("media", media=media))

    def key(self, digit: str) -> str:
        return json.dumps(self.numbered("dtmf", dtmf={"digit": digit, "duration": "100"}))

    def take(self, message: str | bytes) -> list[str]:
        content = json.loads(message)
        assert content["stream_sid"] == self.stream
        match content["event"]:
            case "media":
                pcm = base64.b64decode(content["media"]["payload"])
                assert len(pcm) >= 3200
                assert len(pcm) % 320 == 0
                self.heard += pcm
            case "clear":
                self.clears += 1
            case "mark":
                mark = content["mark"]
                return self.back(mark["name"], self.numbered("mark", mark=mark))
            case other:
                raise AssertionError(f"Exotel knows no {other!r}")
        return []

    def end(self) -> str:
        stop = {"call_sid": "CA" + "e" * 24, "account_sid": "AC" + "e" * 24, "reason": "stopped"}
        return json.dumps(self.numbered("stop", stop=stop))


class Vonage(Phone):
    name = "vonage"
    rate = 16000

    def signed(self, **claims: Any) -> dict[str, str]:
        usual = {
            "iat": int(time.time()),
            "jti": secrets.token_hex(16),
            "iss": "Vonage",
            "api_key": "abcd1234",
        }
        return {"Authorization": f"Bearer {jwt.encode(usual | claims, VONAGE, 'HS256')}"}

    async def ring(self, base: str) -> str:
        query = {"from": CALLER, "to": DIALLED, "uuid": "aaaa", "conversation_uuid": "CON-aaaa"}
        answer = await _asked("GET", f"{base}/vonage/voice", params=query, headers=self.signed())
        (action,) = answer.json()
        (endpoint,) = action["endpoint"]
        assert (action["action"], endpoint["type"]) == ("connect", "websocket")
        assert endpoint["content-type"] == "audio/l16;rate=16000"
        return str(endpoint["uri"])

    def start(self) -> list[str]:
        first = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000"}
        return [json.dumps(first)]

    def audio(self, pcm: bytes) -> bytes:
        return pcm

    def key(self, digit: str) -> str:
        return json.dumps({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    def take(self, message: str | bytes) -> list[str]:
        if isinstance(message, bytes):
            assert len(message) == 640
            self.heard += message
            return []
        content = json.loads(message)
        if content == {"action": "clear"}:
            self.clears += 1
            return [json.dumps({"event": "websocket:cleared"})]
        assert content["action"] == "notify"
        payload = content["payload"]
        return self.back(payload["name"], {"event": "websocket:notify", "payload": payload})


class Genesys(Phone):
    name = "genesys"
    marks = False
    session = "e160e428-53e2-487c-977d-96989bf5c99d"
    conversation = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
    sequence = 0

    def __init__(self) -> None:
        super().__init__()
        self.types: list[str] = []
        self.server_sequence = 0

    async def ring(self, base: str) -> str:
        host = base.partition("://")[2]
        target = "/genesys/audiohook?agent=reception"
        self.headers = self.signed(host, target)
        return f"ws://{host}{target}"

    def signed(self, host: str, target: str, **changes: str) -> dict[str, str]:
        headers = {
            "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
            "audiohook-session-id": self.session,
            "audiohook-correlation-id": "e3f5b8a2-2a5f-4a0e-9d8f-7f2b6d1c0e9a",
            "x-api-key": GENESYS[0],
        }
        names = ["@request-target", "@authority", *headers]
        created = changes.get("created", str(int(time.time())))
        nonce = changes.get("nonce", secrets.token_urlsafe(32))
        listed = " ".join(f'"{name}"' for name in names)
        parameters = (
            f'({listed});keyid="{GENESYS[0]}";nonce="{nonce}";created={created};'
            f'expires={int(created) + 10};alg="hmac-sha256"'
        )
        values = {"@request-target": target, "@authority": host} | headers
        lines = [f'"{name}": {values[name]}' for name in names]
        lines.append(f'"@signature-params": {parameters}')
        mac = hmac.digest(GENESYS[1], "\n".join(lines).encode(), hashlib.sha256)
        return headers | {
            "signature-input": f"sig1={parameters}",
            "signature": f"sig1=:{base64.b64encode(mac).decode()}:",
        }

    def _message(self, kind: str, **parameters: Any) -> str:
        self.sequence += 1
        return json.dumps(
            {
                "version": "2",
                "id": self.session,
                "type": kind,
                "seq": self.sequence,
                "serverseq": self.server_sequence,
                "position": "PT1.5S",
                "parameters": parameters,
            }
        )

    def start(self) -> list[str]:
        return [
            self._message(
                "open",
                organizationId="d7934305-0972-4844-938e-9060eef73d05",
                conversationId=self.conversation,
                participant={
                    "id": "883efee8-3d6c-4537-b500-6d7ca4b92fa0",
                    "ani": CALLER,
                    "aniName": "John Doe",
                    "dnis": DIALLED,
                },
                media=[{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}],
                language="en-US",
            )
        ]

    def audio(self, pcm: bytes) -> bytes:
        return audioop.lin2ulaw(pcm, 2)

    def key(self, digit: str) -> str:
        return self._message("dtmf", digit=digit)

    def take(self, message: str | bytes) -> list[str]:
        if isinstance(message, bytes):
            assert len(message) == 1600
            self.heard += audioop.ulaw2lin(message, 2)
            return []
        content = json.loads(message)
        assert content["version"] == "2"
        assert content["id"] == self.session
        assert content["seq"] == self.server_sequence + 1
        self.server_sequence = content["seq"]
        self.types.append(content["type"])
        self.said.append(content)
        if content["type"] == "event":
            assert content["parameters"]["entities"][0]["type"] == "barge_in"
            self.clears += 1
        if content["type"] == "disconnect":
            return [self._message("close", reason="disconnect")]
        return []

    def end(self) -> str:
        return self._message("close", reason="end")

    def ping(self) -> str:
        return self._message("ping", rtt="PT0.048S")


PHONES: tuple[type[Phone], ...] = (Telnyx, Plivo, Exotel, Vonage, Genesys)
