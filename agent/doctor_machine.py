"""Checks of the machine: Python, codecs, ports, limits, and the peers that tests call."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
from importlib import import_module
from typing import Final

import av

from ringtrue.agent.findings import Check, CheckFunction, State, installed_version
from ringtrue.config.settings import Settings

PEERS: Final = {
    "sipp": ("sip-tester", "20 calls at once over SIP"),
    "baresip": ("baresip-core", "calls from an independent SIP phone"),
    "kamailio": ("kamailio", "calls through a registrar and proxy"),
    "chromium": ("chromium", "calls from a real browser"),
    "redis-server": ("redis-server", "the voice cache"),
    "tcpdump": ("tcpdump", "captures of failing calls"),
    "flite": ("flite", "recognition of synthetic speech"),
    "sox": ("sox", "audio measured by an independent tool"),
    "ip": ("iproute2", "calls in network namespaces"),
}
"""Command → Debian package, and which tests need it."""

CODECS: Final = (("g722", "SIP calls in G.722"),)
FILES_PER_CALL: Final = 8


def _python(_: Settings) -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Check("python", State.OK, f"{found}, {os.cpu_count()} cores")
    cost = "dependencies are not tested with it and may not install"
    return Check("python", State.DEGRADED, found, cost, "use Python 3.11 to 3.13")


def _uvloop(_: Settings) -> Check:
    if version := installed_version("uvloop"):
        import_module("uvloop")
        return Check("uvloop", State.OK, version)
    cost = "the event loop needs more CPU per call"
    return Check("uvloop", State.DEGRADED, "not installed", cost, "pip install uvloop")


def _codecs(settings: Settings) -> list[Check]:
    found = []
    for name, use in CODECS:
        lacking = []
        for mode in ("r", "w"):
            try:
                av.Codec(name, mode)
            except av.codec.codec.UnknownCodecError:
                lacking.append("decoder" if mode == "r" else "encoder")
        if lacking:
            found.append(
                Check(
                    f"codec {name}",
                    State.DEGRADED,
                    f"PyAV has no {name} {' nor '.join(lacking)}",
                    f"no {use}",
                    "install PyAV from its wheel",
                )
            )
        else:
            found.append(Check(f"codec {name}", State.OK, f"PyAV {installed_version('av')}"))
    return found


def _ports(settings: Settings) -> list[Check]:
    wanted = []
    if settings.sip.enabled:
        sip = settings.sip
        if sip.udp:
            wanted.append(("sip udp", socket.SOCK_DGRAM, sip.host, sip.port, "sip.port"))
        if sip.tcp:
            wanted.append(("sip tcp", socket.SOCK_STREAM, sip.host, sip.port, "sip.port"))
        if sip.tls.enabled:
            tls = ("sip tls", socket.SOCK_STREAM, sip.host, sip.tls.port, "sip.tls.port")
            wanted.append(tls)
    if settings.http.enabled:
        http = settings.http
        wanted.append(("http", socket.SOCK_STREAM, http.host, http.port, "http.port"))
    return [_port(*item) for item in wanted]


def _port(name: str, kind: socket.SocketKind, host: str, port: int, key: str) -> Check:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check(
                f"port {name}",
                State.MISSING,
                f"{host}:{port}: {error.strerror}",
                "the server can't start",
                f"stop what holds it, or change {key}",
            )
    return Check(f"port {name}", State.OK, f"{host}:{port} is free")


def _rtp_range(settings: Settings) -> Check:
    sip = settings.sip
    pairs = (sip.rtp_port_max - sip.rtp_port_min + 1) // 2
    found = f"{sip.rtp_port_min}-{sip.rtp_port_max}: {pairs} calls"
    if sip.enabled and pairs < settings.server.max_calls:
        return Check(
            "rtp ports",
            State.DEGRADED,
            found,
            f"fewer than server.max_calls {settings.server.max_calls}; more are refused",
            "widen sip.rtp_port_min and sip.rtp_port_max",
        )
    return Check("rtp ports", State.OK, found)


def _open_files(settings: Settings) -> Check:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = 128 + FILES_PER_CALL * settings.server.max_calls
    if limit != resource.RLIM_INFINITY and limit < needed:
        return Check(
            "open files",
            State.DEGRADED,
            f"limit {limit}",
            f"server.max_calls {settings.server.max_calls} may need {needed}",
            f"ulimit -n {needed}",
        )
    return Check("open files", State.OK, f"limit {limit}, {needed} needed at most")


def _webrtc(settings: Settings) -> Check:
    if not settings.webrtc.enabled:
        return Check("webrtc", State.OK, "off")
    import_module("aiortc")
    version = f"aiortc {installed_version('aiortc')}"
    if not settings.webrtc.ice_servers:
        return Check(
            "webrtc",
            State.DEGRADED,
            f"{version}, no ICE servers",
            "browsers behind another NAT can't connect; browsers use the microphone over "
            "https or localhost only",
            "set webrtc.ice_servers",
        )
    return Check("webrtc", State.OK, version)


def _twilio(settings: Settings) -> Check:
    if not settings.twilio.enabled:
        return Check(
            "twilio",
            State.OK,
            "off; to use it set twilio.enabled, twilio.auth_token and http.public_url",
        )
    if settings.http.public_url is None:
        return Check(
            "twilio",
            State.DEGRADED,
            "http.public_url is not set",
            "behind a proxy every webhook's signature is refused",
            "set http.public_url to the URL Twilio calls",
        )
    return Check("twilio", State.OK, f"webhook {settings.http.public_url}/twilio/voice")


def _records(settings: Settings) -> Check:
    place = settings.records.dir
    if place is None:
        return Check("records", State.OK, "kept in memory only; records.dir writes them to disk")
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = f"{existing} is not a writable directory"
        return Check(
            "records", State.MISSING, found, "call records are lost", "correct records.dir"
        )
    return Check("records", State.OK, f"written to {place}, the newest {settings.records.keep}")


def _peers(_: Settings) -> list[Check]:
    found = []
    for command, (package, use) in PEERS.items():
        path = shutil.which(command)
        if path is None and command == "ip":
            path = shutil.which(command, path="/usr/sbin:/sbin")
        if path:
            found.append(Check(f"test peer {command}", State.OK, path))
        else:
            found.append(
                Check(
                    f"test peer {command}",
                    State.DEGRADED,
                    "not installed",
                    f"tests skip: {use}",
                    f"apt-get install {package}",
                )
            )
    return found


MACHINE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _python,
    _uvloop,
    _codecs,
    _ports,
    _rtp_range,
    _open_files,
    _webrtc,
    _twilio,
    _records,
    _peers,
)
"""All of this module, in the order they are shown."""
