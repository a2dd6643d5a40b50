"""What ``ringtrue serve`` prints once it takes calls."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Protocol

from ringtrue.config.settings import Settings


class Listening(Protocol):
    """What takes calls: a server, or a supervisor of several."""

    @property
    def settings(self) -> Settings:
        """As it was told."""
        ...

    @property
    def sip_port(self) -> int | None:
        """None where SIP is off."""
        ...

    @property
    def http_port(self) -> int | None:
        """None where HTTP is off."""
        ...


def banner(server: Listening, agents: Iterable[str]) -> str:
    """What to try, with the addresses it listens on."""
    settings = server.settings
    lines = [f"{settings.server.name} takes calls.", ""]
    if server.sip_port:
        host = _shown(settings.sip.host, settings.sip.advertised_host)
        kinds = "/".join(
            k for k, on in (("UDP", settings.sip.udp), ("TCP", settings.sip.tcp)) if on
        )
        lines.append(
            f"  SIP         sip:{settings.agents.default}@{host}:{server.sip_port} ({kinds})"
        )
        lines += [
            f"              sip:{name}@{host}:{server.sip_port}"
            for name in sorted(agents)
            if name != settings.agents.default
        ]
    if server.http_port is not None:
        host = "localhost" if _wild(settings.http.host) else _literal(settings.http.host)
        base = settings.http.public_url or f"http://{host}:{server.http_port}"
        if settings.webrtc.enabled and settings.webrtc.public:
            lines.append(f"  Browser     {base}/  (the microphone needs https or localhost)")
        if settings.twilio.enabled:
            lines.append(f"  Twilio      point the number's voice webhook at {base}/twilio/voice")
        else:
            lines.append("  Twilio      off; set RINGTRUE_TWILIO__ENABLED and __AUTH_TOKEN")
        carriers = settings.carriers
        for name in ("telnyx", "plivo", "exotel", "vonage"):
            if getattr(carriers, name).enabled:
                lines.append(f"  {name.title():<11} its webhook is {base}/{name}/voice")
        if carriers.genesys.enabled:
            socket_base = base.replace("http", "ws", 1)
            lines.append(f"  Genesys     its websocket is {socket_base}/genesys/audiohook")
        metrics = f"   Metrics  {base}/metrics" if settings.http.metrics else ""
        lines.append(f"  Health      {base}/readyz{metrics}")
    lines += ["", "  Stop with Ctrl-C."]
    return "\n".join(lines)


def _shown(host: str, advertised: str | None) -> str:
    if advertised is not None:
        return _literal(advertised)
    return socket.gethostname() if _wild(host) else _literal(host)


def _wild(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _literal(host: str) -> str:
    """As a URI has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
