"""A caller over WebRTC: aiortc as it comes."""

from __future__ import annotations

import asyncio
import secrets
import time
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, AudioResampler
from callers import FRAME, RATE, Caller, Spec


class _Mouth(MediaStreamTrack):
    """What the caller says, at 8 kHz; aiortc resamples it."""

    kind = "audio"

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller
        self._began: float | None = None
        self._position = 0

    async def recv(self) -> AudioFrame:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        due = self._began + self._position / RATE
        await asyncio.sleep(max(0.0, due - now))
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(self._caller.speak(max(due, now)))
        frame.sample_rate, frame.pts = RATE, self._position
        frame.time_base = Fraction(1, RATE)
        self._position += FRAME
        return frame


class WebRtcCaller(Caller):
    """One call."""

    async def run(self) -> None:
        """Offer, converse, close."""
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        pc.addTrack(_Mouth(self))
        hearing: list[asyncio.Task[None]] = []

        @pc.on("track")  # type: ignore[untyped-decorator]
        def listen(track: MediaStreamTrack) -> None:
            hearing.append(asyncio.create_task(self._listen(track)))

        try:
            if self.spec.server != "ringtrue":
                pc.createDataChannel("text")
            await pc.setLocalDescription(await pc.createOffer())
            answer = await _signal(self.spec, pc.localDescription.sdp)
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await self.converse()
        finally:
            await pc.close()
            for task in hearing:
                task.cancel()
            await asyncio.gather(*hearing, return_exceptions=True)

    async def _listen(self, track: MediaStreamTrack) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            now = time.monotonic()
            assert isinstance(frame, AudioFrame)
            frame.pts = None  # a stream may begin anew
            for each in resampler.resample(frame):
                pcm: npt.NDArray[np.int16] = each.to_ndarray().reshape(-1)
                self.hear(pcm, now)


async def _signal(spec: Spec, sdp: str) -> str:
    """The server's answer to the offer ``sdp``."""
    base = f"http://127.0.0.1:{spec.port}"
    async with httpx.AsyncClient(timeout=20) as client:

        async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = await client.post(base + path, json=body)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
            return answer

        if spec.server == "ringtrue":
            token = (await post("/webrtc/session", {}))["token"]
            return str((await post("/webrtc/offer", {"sdp": sdp, "token": token}))["sdp"])
        offer = {"sdp": sdp, "type": "offer"}
        if spec.server == "fastrtc":
            offer |= {"webrtc_id": secrets.token_hex(6)}
            return str((await post("/webrtc/offer", offer))["sdp"])
        return str((await post("/api/offer", offer))["sdp"])
