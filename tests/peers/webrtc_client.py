"""A browser's side of a WebRTC call, without a browser: aiortc as it comes, unguarded."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcdtlstransport import SRTP_PROFILES
from av import AudioFrame
from pylibsrtp import Policy, Session

from ringtrue.telephony.webrtc.events import CHANNEL


class ToneTrack(MediaStreamTrack):
    """A tone at 48 kHz in real time."""

    kind = "audio"

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self._frequency = frequency
        self._position = 0
        self._began: float | None = None

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began = loop.time()
        await asyncio.sleep(max(0.0, self._began + self._position / 48000 - loop.time()))
        time = (np.arange(960) + self._position) / 48000
        wave = (8000 * np.sin(2 * math.pi * self._frequency * time)).astype("<i2")
        frame = AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update(wave.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = 48000, self._position, Fraction(1, 48000)
        self._position += 960
        return frame


class WebRtcCaller:
    """One caller. ``heard`` is 48 kHz mono PCM as its decoder gives it."""

    def __init__(
        self, frequency: float = 600, configuration: RTCConfiguration | None = None
    ) -> None:
        self.pc = RTCPeerConnection(configuration or RTCConfiguration(iceServers=[]))
        self.channel = self.pc.createDataChannel(CHANNEL)
        self.events: list[dict[str, Any]] = []
        self.heard = bytearray()
        self._tasks: list[asyncio.Task[None]] = []
        self.pc.addTrack(ToneTrack(frequency))
        self.channel.on("message", lambda text: self.events.append(json.loads(text)))
        self.pc.on("track", self._listen)

    def _listen(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._hear(track)))

    async def _hear(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            self.heard += samples[:, 0].astype("<i2").tobytes()

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def close(self) -> None:
        await self.pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence(self) -> None:
        """Lose the network: nothing is sent any more, not even a goodbye."""
        connection = self.pc.getTransceivers()[0].receiver.transport.transport._connection
        for protocol in connection._protocols:
            protocol.send_stun = lambda *_: None
        connection._nominated[1].protocol.send_data = _lost

    def srtp_of_the_server(self) -> Session:
        """What undoes the encryption of what this caller is sent, from the first packet on.

        Keys as RFC 5764 §4.2 derives them from the DTLS association.
        """
        transport = self.pc.getTransceivers()[0].receiver.transport
        chosen = transport._ssl.get_selected_srtp_profile()
        profile = next(each for each in SRTP_PROFILES if each.openssl_profile == chosen)
        view = transport._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        policy = Policy(
            key=profile.get_key_and_salt(view, 0 if transport._role == "server" else 1),
            ssrc_type=Policy.SSRC_ANY_INBOUND,
            srtp_profile=profile.libsrtp_profile,
        )
        return Session(policy)

    @property
    def socket_address(self) -> tuple[str, int]:
        """Where it is: address and port of the nominated pair."""
        connection = self.pc.getTransceivers()[0].receiver.transport.transport._connection
        pair = connection._nominated[1]
        return pair.local_addr


async def _lost(data: bytes, addr: tuple[str, int]) -> None:
    """A network that delivers nothing."""


@asynccontextmanager
async def calling(
    signal: Callable[[str], Awaitable[str]], frequency: float = 600
) -> AsyncIterator[WebRtcCaller]:
    """Offer, give the offer to ``signal`` for an answer, and connect."""
    caller = WebRtcCaller(frequency)
    try:
        await caller.accept(await signal(await caller.offer()))
        yield caller
    finally:
        await caller.close()


def amplitude(pcm: bytes, frequency: float, rate: int) -> float:
    """Amplitude of ``frequency`` over the loudest half second of ``pcm``."""
    wave = np.frombuffer(pcm, "<i2").astype(float)
    width, best = rate // 2, 0.0
    for start in range(0, len(wave) - width + 1, width // 5):
        part = wave[start : start + width]
        phase = np.exp(-2j * np.pi * frequency * np.arange(width) / rate)
        best = max(best, 2 * float(abs(np.mean(part * phase))))
    return best
