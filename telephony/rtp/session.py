"""One call's media as SIP sees it: offers and answers in, an :class:`RtpLeg` out."""

from __future__ import annotations

import contextlib
import ipaddress
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from ringtrue.telephony.codecs import CODEC_NAMES, Codec, by_name
from ringtrue.telephony.offer_answer import (
    AudioPlan,
    Local,
    NotAcceptableError,
    answer_offer,
    make_offer,
    read_answer,
    revised,
)
from ringtrue.telephony.rtp.latch import LatchPolicy
from ringtrue.telephony.rtp.leg import RtpLeg
from ringtrue.telephony.rtp.ports import PortPair, PortPool, PortsExhaustedError
from ringtrue.telephony.rtp.stream import StreamPlan
from ringtrue.telephony.sdes import PLAIN, Security
from ringtrue.telephony.sdp import Direction, SdpError, SessionDescription, parse
from ringtrue.telephony.sip.media import MediaError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How media is agreed on and sent, beside its codecs."""

    security: Security = PLAIN
    comfort_noise: bool = True
    """Far ends may tell their pauses by comfort noise (RFC 3389)."""

    send_pauses: bool = False
    """So do we where it was agreed on; else our silence is sent as audio."""

    rtcp_mux: bool = False
    """We offer reports on the media port (RFC 5761); asked for, they always are."""

    own_order: bool = False
    """Answers prefer our order of codecs to the caller's."""

    inband: Literal["auto", "on", "off"] = "auto"
    """Digits are listened for in the audio; ``auto``: without telephone events."""

    latch: LatchPolicy = LatchPolicy()


DEFAULT_OPTIONS = MediaOptions()


class RtpSession:
    """A :class:`~ringtrue.telephony.sip.media.MediaSession` over RTP and SRTP."""

    def __init__(
        self,
        pool: PortPool,
        *,
        codecs: Sequence[str] = CODEC_NAMES,
        advertised_host: str | None = None,
        trusted_hosts: Sequence[str] = (),
        options: MediaOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Media on ports of ``pool``.

        ``codecs`` are names, best first. ``advertised_host`` is the IP literal descriptions
        give, where it is not the pool's own. ``trusted_hosts`` are IP literals from which the
        far end's signalling came: media behind a NAT may be learned from them.
        Raises ``ValueError`` for an unknown codec, and where neither host can be reached.
        """
        self._pool = pool
        self._codecs: tuple[Codec, ...] = tuple(by_name(name) for name in codecs)
        self._host = advertised_host or pool.host
        if ipaddress.ip_address(self._host).is_unspecified:
            raise ValueError(
                f"media bound to {self._host} needs an advertised_host that can be reached"
            )
        self._trusted = tuple(trusted_hosts)
        self._options = options
        self._session_id = random.SystemRandom().getrandbits(62)
        self._pair: PortPair | None = None
        self._leg: RtpLeg | None = None
        self._sent: SessionDescription | None = None
        self._pending: SessionDescription | None = None
        self._plan: AudioPlan | None = None
        self._described: SessionDescription | None = None
        self._direction = self._wanted = Direction.SENDRECV
        self._closed = False

    @property
    def leg(self) -> RtpLeg:
        """The audio.

        Raises ``RuntimeError`` before the first offer/answer exchange is complete.
        """
        if self._leg is None:
            raise RuntimeError("no media before the first offer/answer exchange is complete")
        return self._leg

    async def offer(self, *, hold: bool | None = None) -> bytes:
        """Our description, as an offer; ``hold`` puts the far end on hold or takes it off."""
        self._wanted = self._direction
        if hold is not None:
            self._wanted = Direction.SENDONLY if hold else Direction.SENDRECV
        with _refusing():
            local = self._local(self._wanted)
            offer = make_offer(local, self._codecs, previous=self._sent, plan=self._plan)
            self._pending = self._describe(offer)
            return self._pending.serialize()

    async def answer(self, offer: bytes) -> bytes:
        """Take the far end's first offer and give our answer; the leg is then ready."""
        return self._answer(offer)

    async def update(self, offer: bytes) -> bytes:
        """Take a later offer and give our answer."""
        return self._answer(offer)

    def _answer(self, offer: bytes) -> bytes:
        with _refusing():
            local = self._local()
            sent, plan = answer_offer(
                parse(offer), local, self._codecs, previous=self._sent, plan=self._plan
            )
            sent = self._describe(sent)
            self._agree(sent, plan)
            return sent.serialize()

    async def set_answer(self, answer: bytes) -> None:
        """Take the far end's answer to the last :meth:`offer`; the leg is then ready."""
        offer = self._pending
        if offer is None:
            raise MediaError("an answer without an offer", status=400)
        with _refusing():
            plan = read_answer(offer, parse(answer), self._local(self._wanted), self._codecs)
            self._pending, self._direction = None, self._wanted
            self._agree(offer, plan)

    async def preview(self, answer: bytes) -> None:
        """Take a provisional response's answer: the leg hears, and is not to be spoken on yet."""
        offer = self._pending
        if offer is None:
            raise MediaError("an answer without an offer", status=400)
        with _refusing():
            local = self._local(self._wanted)
            self._agree(offer, read_answer(offer, parse(answer), local, self._codecs))

    def tell(self, key: str) -> None:
        """The far end's signalling told of a key (SIP INFO)."""
        if self._leg is not None:
            self._leg.tell(key)

    def close(self) -> None:
        """Release sockets and ports; idempotent."""
        self._closed = True
        if self._leg is not None:
            self._leg.close()
        elif self._pair is not None:
            self._pool.release(self._pair)

    def _describe(self, description: SessionDescription) -> SessionDescription:
        """Number it after whatever we described last, agreed on or not (RFC 3264 §8)."""
        self._described = revised(description, self._described)
        return self._described

    def _local(self, direction: Direction | None = None) -> Local:
        if self._closed:
            raise NotAcceptableError("the call's media is closed")
        if self._pair is None:
            self._pair = self._pool.acquire()
        port = self._pair.port
        way = self._direction if direction is None else direction
        options = self._options
        return Local(
            self._host,
            port,
            port + 1,
            self._session_id,
            security=options.security,
            comfort_noise=options.comfort_noise,
            rtcp_mux=options.rtcp_mux,
            own_order=options.own_order,
            direction=way,
        )

    def _agree(self, sent: SessionDescription, plan: AudioPlan) -> None:
        assert self._pair is not None
        stream = _stream_plan(plan, self._options)
        if self._leg is None:
            self._leg = RtpLeg(
                self._pool, self._pair, stream, trusted=self._trusted, latch=self._options.latch
            )
        else:
            self._leg.configure(stream)
        self._sent, self._plan = sent, plan
        log.info(
            "media.agreed",
            codec=plan.codec.name,
            direction=plan.direction.value,
            events=plan.event_type is not None,
            rtcp_mux=plan.rtcp_mux,
            srtp=plan.srtp.suite.name if plan.srtp is not None else None,
        )


def _stream_plan(plan: AudioPlan, options: MediaOptions) -> StreamPlan:
    inband = options.inband == "on" or (options.inband == "auto" and not plan.receive_events)
    return StreamPlan(
        codec=plan.codec,
        payload_type=plan.payload_type,
        receive=plan.receive,
        event_type=plan.event_type,
        receive_events=plan.receive_events,
        sending=plan.direction.sends,
        receiving=plan.direction.receives,
        remote=plan.remote,
        remote_rtcp=plan.remote_rtcp,
        rtcp_mux=plan.rtcp_mux,
        noise_type=plan.noise_type if options.send_pauses else None,
        srtp=plan.srtp,
        remote_ssrcs=plan.remote_ssrcs,
        inband=inband,
    )


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Give each way a description fails the SIP answer it deserves."""
    try:
        yield
    except SdpError as error:
        raise MediaError(_printable(error), status=400) from error
    except NotAcceptableError as error:
        raise MediaError(_printable(error), status=488) from error
    except PortsExhaustedError as error:
        raise MediaError("no media port free", status=503) from error


def _printable(error: Exception) -> str:
    text = str(error).encode("ascii", "replace").decode()
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


def session_factory(
    pool: PortPool,
    *,
    codecs: Sequence[str] = CODEC_NAMES,
    advertised_host: str | None = None,
    trusted_hosts: Sequence[str] = (),
    options: MediaOptions = DEFAULT_OPTIONS,
) -> Callable[[], RtpSession]:
    """A :data:`~ringtrue.telephony.sip.media.MediaFactory`; arguments as :class:`RtpSession`."""
    return lambda: RtpSession(
        pool,
        codecs=codecs,
        advertised_host=advertised_host,
        trusted_hosts=trusted_hosts,
        options=options,
    )
