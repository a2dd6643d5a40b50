"""Media Streams messages as Twilio documents them, to be changed by tests."""

from __future__ import annotations

import base64
import json
from typing import Any

from ringtrue.telephony.twilio.protocol import MediaStreamProtocol

STREAM = "MZ" + "1" * 32
CALL = "CA" + "2" * 32
ACCOUNT = "AC" + "3" * 32

CONNECTED: dict[str, Any] = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START: dict[str, Any] = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
        "callSid": CALL,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "secret"},
    },
    "streamSid": STREAM,
}


def message(event: str, sequence: int = 2, **rest: Any) -> dict[str, Any]:
    return {"event": event, "sequenceNumber": str(sequence), "streamSid": STREAM, **rest}


def media(audio: bytes = b"\xff" * 160, /, **change: Any) -> dict[str, Any]:
    body = {
        "track": "inbound",
        "chunk": "1",
        "timestamp": "5",
        "payload": base64.b64encode(audio).decode(),
    }
    return message("media", media=body | change)


def started() -> MediaStreamProtocol:
    protocol = MediaStreamProtocol()
    protocol.receive(json.dumps(CONNECTED))
    protocol.receive(json.dumps(START))
    return protocol
