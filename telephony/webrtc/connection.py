"""One peer connection of a browser's call: negotiated once, and replaced whole to reconnect.

aiortc can't restart ICE (RFC 8445 §9), so a call that lost its path gets a new connection, with
new keys and candidates, and keeps everything else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from ringtrue.config.webrtc_settings import IceServer
from ringtrue.streaming.gate import SealGuard
from ringtrue.telephony.webrtc.candidates import Fragment, offered_ufrag
from ringtrue.telephony.webrtc.errors import (
    CandidateError,
    OfferError,
    UnsupportedAiortcError,
    WebRtcError,
)
from ringtrue.telephony.webrtc.guard import DatagramGuard
from ringtrue.telephony.webrtc.inbound import AiortcPacket, OpusInbound, PacketTap
from ringtrue.telephony.webrtc.track import SealedTrack

MAX_SDP: Final = 64 * 1024
MAX_CANDIDATES: Final = 64
"""Each is sent checks, so an offer must not make us knock at more doors than a browser has."""

ANSWER_TIMEOUT: Final = 10.0
CANDIDATE_TIMEOUT: Final = 5.0
"""Seconds that a candidate's name may take to be looked up (mDNS)."""

_JITTER_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"


class Connection:
    """A guarded ``RTCPeerConnection`` with one Opus track each way."""

    def __init__(
        self,
        ice_servers: Sequence[IceServer],
        seals: SealGuard,
        *,
        on_state: Callable[[Connection, str], None],
        on_channel: Callable[[Connection, RTCDataChannel], None],
    ) -> None:
        """One to be negotiated; ``seals`` has seen what the call sent before.

        ``on_state`` is told each new state of the connection (W3C's ``connectionState``),
        ``on_channel`` each data channel the page opens. Raises :class:`UnsupportedAiortcError`
        if the installed aiortc can't be guarded.
        """
        self._pc = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[_ice_server(server) for server in ice_servers],
                bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
            )
        )
        self.track = SealedTrack(seals)
        transceiver = self._pc.addTransceiver(self.track, direction="sendrecv")
        transceiver.setCodecPreferences(_opus())
        self._sender, receiver = transceiver.sender, transceiver.receiver
        self._ice = receiver.transport.transport
        self.guard = DatagramGuard(self._ice._connection)
        self.inbound = OpusInbound()
        if not hasattr(receiver, _JITTER_BUFFER):
            raise UnsupportedAiortcError("RTCRtpReceiver has no jitter buffer; supported: 1.16")
        setattr(receiver, _JITTER_BUFFER, PacketTap(self._packet))
        self._clock = asyncio.get_running_loop().time
        self._ufrag: str | None = None
        self._candidates = 0
        self._pc.on("connectionstatechange", lambda: on_state(self, self.state))
        self._pc.on("datachannel", lambda channel: on_channel(self, channel))

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` or ``closed``."""
        return str(self._pc.connectionState)

    async def answer(self, offer: str) -> str:
        """Our answer to the browser's SDP offer, all our candidates in it.

        The offer's may come later (RFC 8838), except where it says ``a=end-of-candidates``.
        Raises :class:`OfferError` saying what is wrong with the offer.
        """
        try:
            _check(offer)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                await self._pc.setLocalDescription(await self._pc.createAnswer())
        except WebRtcError:
            raise
        except Exception as error:
            raise OfferError(f"can't be answered: {type(error).__name__}") from error
        self._ufrag = offered_ufrag(offer)
        self._candidates = _count(offer)
        self.guard.arm()
        description: RTCSessionDescription = self._pc.localDescription
        return str(description.sdp)

    async def add(self, fragment: Fragment) -> None:
        """Add candidates that came after the offer; those we can't use are passed over.

        Raises :class:`CandidateError` for another ICE generation's, for too many, and for any
        after the end (RFC 8838 §14).
        """
        if fragment.ufrag is not None and fragment.ufrag != self._ufrag:
            raise CandidateError("these candidates belong to another connection: ice-ufrag differs")
        self._candidates += len(fragment.candidates)
        if self._candidates > MAX_CANDIDATES:
            raise CandidateError(f"{self._candidates} candidates; allowed: {MAX_CANDIDATES}")
        if self._ice.iceGatherer._remote_candidates_end and fragment.candidates:
            raise CandidateError("a candidate came after end-of-candidates")
        try:
            async with asyncio.timeout(CANDIDATE_TIMEOUT):
                for text in fragment.candidates:
                    candidate = candidate_from_sdp(text.partition(":")[2])
                    await self._ice.addRemoteCandidate(candidate)
        except TimeoutError:
            raise CandidateError("a candidate's name could not be looked up") from None
        except (ValueError, AssertionError) as error:
            raise CandidateError("a candidate can't be used") from error
        if fragment.complete:
            await self._ice.addRemoteCandidate(None)

    async def round_trip(self) -> float | None:
        """Seconds, as RTCP measured last; None where it hasn't."""
        for report in (await self._sender.getStats()).values():
            if report.type == "remote-inbound-rtp":
                found: float | None = report.roundTripTime
                return found
        return None

    async def close(self) -> None:
        """Say goodbye (DTLS close_notify) and release the sockets."""
        self.track.stop()
        await self._pc.close()

    def _packet(self, packet: AiortcPacket) -> None:
        self.inbound.packet(packet, self._clock())


def _check(offer: str) -> None:
    """Refuse what a page of ours never offers, before aiortc makes anything of it."""
    if len(offer) > MAX_SDP:
        raise OfferError(f"offer has {len(offer)} characters; allowed: {MAX_SDP}")
    kinds = re.findall(r"^m=(\S+)", offer, re.MULTILINE)
    if kinds.count("audio") != 1 or kinds.count("application") > 1 or len(kinds) > 2:
        raise OfferError(
            f"offer has media {', '.join(kinds[:5])[:80] or 'none'}; "
            "allowed: one audio, at most one application"
        )
    if set(kinds) - {"audio", "application"}:
        raise OfferError("offer has media other than audio and application")
    candidates = _count(offer)
    if candidates > MAX_CANDIDATES:
        raise OfferError(f"offer has {candidates} candidates; allowed: {MAX_CANDIDATES}")
    if not re.search(r"^a=fingerprint:sha-(256|384|512) ", offer, re.MULTILINE | re.IGNORECASE):
        raise OfferError("offer has no fingerprint; allowed: sha-256, sha-384, sha-512")


def _count(offer: str) -> int:
    return len(re.findall(r"^a=candidate:", offer, re.MULTILINE))


def _opus() -> list[Any]:
    capabilities = RTCRtpSender.getCapabilities("audio").codecs
    return [codec for codec in capabilities if codec.mimeType.lower() == "audio/opus"]


def _ice_server(server: IceServer) -> RTCIceServer:
    credential = server.credential
    return RTCIceServer(
        urls=list(server.urls),
        username=server.username,
        credential=None if credential is None else credential.get_secret_value(),
    )
