"""The TwiML that this server answers with."""

from __future__ import annotations

from typing import Final

from twilio.twiml.voice_response import (  # type: ignore[import-untyped]
    Connect,
    Stream,
    VoiceResponse,
)

TOKEN: Final = "token"
"""Name of the stream's ``<Parameter>`` that lets it in."""


def connect(url: str, token: str) -> str:
    """Stream to the websocket ``url``, showing ``token``; hang up once the stream is over."""
    response = VoiceResponse()
    stream = Stream(url=url)
    stream.parameter(name=TOKEN, value=token)
    verb = Connect()
    verb.append(stream)
    response.append(verb)
    response.hangup()
    return str(response)


def busy() -> str:
    """Refuse the call, as busy."""
    response = VoiceResponse()
    response.reject(reason="busy")
    return str(response)


def websocket_url(base: str, mark: str = "") -> str:
    """The media websocket of a server at ``base``, an http(s) URL; ``mark`` names a process."""
    scheme, _, rest = base.partition("://")
    return f"{'ws' if scheme == 'http' else 'wss'}://{rest.rstrip('/')}/twilio/media" + (
        f"/{mark}" if mark else ""
    )
