"""Offers and answers for one audio stream, as pure functions (RFC 3264).

One audio stream over RTP or SRTP is taken, an encrypted one where there is a choice; every other
stream of an offer is refused in place (port 0). The answer keeps the offerer's order of formats,
less those we don't have, unless configuration prefers ours.

Error tree::

    RingtrueError
    ├── SdpError                  see ringtrue.telephony.sdp
    └── NotAcceptableError        a readable description we can't work with: SIP 488
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony import sdes
from ringtrue.telephony.audio_formats import (
    Formats,
    common_formats,
    describe,
    extended,
    offered_formats,
)
from ringtrue.telephony.codecs import Codec
from ringtrue.telephony.codecs.comfort_noise import CN
from ringtrue.telephony.sdes import PLAIN, Crypto, Security, SrtpKeys, SrtpMode
from ringtrue.telephony.sdp import (
    Attribute,
    Direction,
    Media,
    Origin,
    SdpError,
    SessionDescription,
)

PROTOCOLS: Final = {"RTP/AVP": False, "RTP/AVPF": False, "RTP/SAVP": True, "RTP/SAVPF": True}
"""Profile → whether it must be encrypted. Feedback (AVPF) is taken, and none is sent."""

PTIME: Final = "20"
"""We send 20 ms in every packet and take any length."""


class NotAcceptableError(RingtrueError):
    """Nothing in the description can be used; the text says why, in printable ASCII."""


@dataclass(frozen=True, slots=True)
class Local:
    """Our side, as descriptions give it."""

    host: str
    """IP literal the far end is to send to."""

    port: int
    rtcp_port: int
    session_id: int
    """Of the o= line; constant while the call lasts."""

    security: Security = PLAIN
    comfort_noise: bool = False
    """Pauses may be told by comfort noise (RFC 3389)."""

    rtcp_mux: bool = False
    """Reports on the media port are offered (RFC 5761); an answer always takes them."""

    own_order: bool = False
    """An answer puts the codecs in our order, not the offerer's."""

    direction: Direction = Direction.SENDRECV
    """What we are willing to do: ``sendonly`` while we have put the far end on hold."""


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """What an offer and its answer agreed on, seen from our side."""

    index: int
    """Which m= section is the audio."""

    remote: tuple[str, int] | None
    """Where to send; None where the far end named no address (hold, RFC 2543 style)."""

    remote_rtcp: tuple[str, int] | None
    rtcp_mux: bool
    codec: Codec
    """What to send."""

    payload_type: int
    """As what to send it."""

    receive: Mapping[int, Codec]
    """Payload types that may come."""

    event_type: int | None
    """Payload type of telephone events to send; None where none were agreed."""

    receive_events: frozenset[int]
    direction: Direction
    """What we may do: ``sends``, ``receives``."""

    formats: Formats
    remote_ssrcs: frozenset[int] = frozenset()
    """What the far end says it sends as (RFC 5576)."""

    srtp: SrtpKeys | None = None
    """None where the media is not encrypted."""

    @property
    def noise_type(self) -> int | None:
        """Payload type of comfort noise beside the codec we send; None where none was agreed."""
        return self.formats.noise if self.codec.clock_rate == CN.clock_rate else None


def make_offer(
    local: Local,
    codecs: Sequence[Codec],
    *,
    previous: SessionDescription | None = None,
    plan: AudioPlan | None = None,
) -> SessionDescription:
    """Our offer; with the ``previous`` description we sent and its ``plan``, a later one.

    A later offer keeps streams, payload types and their order (RFC 3264 §8), and encryption.
    """
    security = local.security
    if previous is None or plan is None:
        profile = "RTP/SAVP" if security.mode is SrtpMode.REQUIRE else "RTP/AVP"
        cryptos = () if security.mode is SrtpMode.OFF else sdes.offered(security, None)
        formats = offered_formats(codecs, noise=local.comfort_noise)
        described = _describe(local, formats, local.direction, profile, cryptos, local.rtcp_mux)
        return revised(_session(local, (described,)), previous)
    formats = extended(plan.formats, codecs, noise=local.comfort_noise)
    cryptos = () if plan.srtp is None else sdes.offered(security, plan.srtp)
    described = _describe(
        local,
        formats,
        local.direction,
        previous.media[plan.index].protocol,
        cryptos,
        local.rtcp_mux or plan.rtcp_mux,
    )
    media = tuple(
        described if index == plan.index else other for index, other in enumerate(previous.media)
    )
    return revised(_session(local, media), previous)


def answer_offer(
    offer: SessionDescription,
    local: Local,
    codecs: Sequence[Codec],
    *,
    previous: SessionDescription | None = None,
    plan: AudioPlan | None = None,
) -> tuple[SessionDescription, AudioPlan]:
    """Our answer and what it agrees on; ``previous`` and ``plan`` as in :func:`make_offer`.

    Raises :class:`NotAcceptableError` where no audio stream can be taken, :class:`SdpError`
    where the one that could has no address.
    """
    if previous is not None and len(offer.media) < len(previous.media):
        raise NotAcceptableError("a later offer has fewer m= sections than the one before")
    reason = "no audio stream offered"
    plain: list[tuple[int, Formats]] = []
    for index in _order(len(offer.media), plan):
        media = offer.media[index]
        if media.kind != "audio" or not media.port:
            continue
        if media.protocol not in PROTOCOLS:
            reason = f"only {' and '.join(_profiles(local.security.mode))} are supported"
            continue
        formats = common_formats(
            media, codecs, noise=local.comfort_noise, own_order=local.own_order
        )
        if not formats.audio:
            reason = f"no common codec; supported: {', '.join(c.name for c in codecs)}"
            continue
        secured = None
        if local.security.mode is not SrtpMode.OFF:
            current = plan.srtp if plan is not None else None
            secured = sdes.answered(media, local.security, current)
        if secured is not None:
            return _answer(offer, index, formats, local, previous, *secured)
        if PROTOCOLS[media.protocol] or local.security.mode is SrtpMode.REQUIRE:
            reason = _insecure(local.security)
            continue
        plain.append((index, formats))
    if plain:
        return _answer(offer, *plain[0], local, previous)
    raise NotAcceptableError(reason)


def _answer(
    offer: SessionDescription,
    index: int,
    formats: Formats,
    local: Local,
    previous: SessionDescription | None,
    crypto: Crypto | None = None,
    keys: SrtpKeys | None = None,
) -> tuple[SessionDescription, AudioPlan]:
    """Take the section ``index`` and refuse every other one."""
    agreed = replace(_plan(offer, index, formats, local), srtp=keys)
    cryptos = () if crypto is None else (crypto,)
    protocol = offer.media[index].protocol
    answered = _describe(local, formats, agreed.direction, protocol, cryptos, agreed.rtcp_mux)
    sections = tuple(
        answered if number == index else _refused(other) for number, other in enumerate(offer.media)
    )
    return revised(_session(local, sections), previous), agreed


def _profiles(mode: SrtpMode) -> list[str]:
    return [name for name, secure in PROTOCOLS.items() if mode is not SrtpMode.OFF or not secure]


def _insecure(security: Security) -> str:
    if security.mode is SrtpMode.OFF:
        return f"only {' and '.join(_profiles(security.mode))} are supported"
    return f"SRTP keys are needed for one of {', '.join(s.name for s in security.suites)}"


def read_answer(
    offer: SessionDescription, answer: SessionDescription, local: Local, codecs: Sequence[Codec]
) -> AudioPlan:
    """What the far end's ``answer`` to our ``offer`` agrees on.

    Raises as :func:`answer_offer`.
    """
    if len(answer.media) != len(offer.media):
        raise NotAcceptableError(
            f"answer has {len(answer.media)} m= sections, the offer {len(offer.media)}"
        )
    for index, (ours, media) in enumerate(zip(offer.media, answer.media, strict=True)):
        if not ours.port:
            continue
        if not media.port:
            raise NotAcceptableError("the far end refused the audio stream")
        if media.kind != "audio" or media.protocol != ours.protocol:
            raise NotAcceptableError(f"answered {ours.protocol} audio with something else")
        formats = common_formats(media, codecs, noise=local.comfort_noise)
        if not formats.audio:
            raise NotAcceptableError("no common codec in the answer")
        offered = common_formats(ours, codecs, noise=local.comfort_noise)
        plan = _plan(answer, index, formats, local, offered_mux=ours.value("rtcp-mux") is not None)
        # it sends with the types we offered (RFC 3264 §6.1); some mean their own
        events = plan.receive_events | {
            number for clock, number in offered.events.items() if clock in formats.events
        }
        return replace(
            plan,
            receive={**offered.receive, **plan.receive},
            receive_events=events,
            srtp=_answered_keys(ours, media, local.security),
        )
    raise NotAcceptableError("the offer had no audio stream")


def _answered_keys(ours: Media, theirs: Media, security: Security) -> SrtpKeys | None:
    """The keys agreed on; None where the far end left an offered encryption out and may."""
    if ours.value("crypto") is None:
        return None
    keys = sdes.agreed(ours, theirs, security)
    if keys is None and (PROTOCOLS[ours.protocol] or theirs.value("crypto") is not None):
        raise NotAcceptableError("the answer's SRTP keys don't fit the offer")
    if keys is None and security.mode is SrtpMode.REQUIRE:
        raise NotAcceptableError("the answer has no SRTP keys")
    return keys


def revised(new: SessionDescription, previous: SessionDescription | None) -> SessionDescription:
    """``new`` with the version its o= line needs: one more only if anything changed (§8)."""
    if previous is None:
        return new
    version = previous.origin.version
    same = replace(new, origin=replace(new.origin, version=version))
    if same == previous:
        return same
    return replace(new, origin=replace(new.origin, version=version + 1))


def _order(count: int, plan: AudioPlan | None) -> list[int]:
    """Section numbers, the one in use first."""
    numbers = list(range(count))
    if plan is not None and plan.index < count:
        numbers.remove(plan.index)
        numbers.insert(0, plan.index)
    return numbers


def _plan(
    remote: SessionDescription,
    index: int,
    formats: Formats,
    local: Local,
    *,
    offered_mux: bool = True,
) -> AudioPlan:
    media = remote.media[index]
    host = remote.media_host(media)
    if host is None:
        raise SdpError("no c= line for the audio stream")
    theirs = remote.direction(media)
    held = _is_hold(host)
    mux = offered_mux and media.value("rtcp-mux") is not None
    address = rtcp = None
    if not held:
        address = (_usable(host, local), media.port)
        rtcp = address if mux else _rtcp(media, address, local)
    payload_type, codec = formats.audio[0]
    return AudioPlan(
        index=index,
        remote=address,
        remote_rtcp=rtcp,
        rtcp_mux=mux,
        codec=codec,
        payload_type=payload_type,
        receive=formats.receive,
        event_type=formats.event_type(codec.clock_rate),
        receive_events=frozenset(formats.events.values()),
        direction=Direction.of(
            sends=theirs.receives and not held and local.direction.sends,
            receives=theirs.sends and local.direction.receives,
        ),
        formats=formats,
        remote_ssrcs=media.ssrcs(),
    )


def _is_hold(host: str) -> bool:
    """The hold of RFC 2543 (RFC 3264 §8.4), and its IPv6 form (RFC 6157 §5)."""
    return host in ("0.0.0.0", "::") or host.endswith(".invalid")


def _usable(host: str, local: Local) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise NotAcceptableError("media address is a host name, not an IP address") from None
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise NotAcceptableError("media address is not unicast")
    if address.version != ipaddress.ip_address(local.host).version:
        raise NotAcceptableError(f"media address is IPv{address.version}, ours is not")
    return str(address)


def _rtcp(media: Media, address: tuple[str, int], local: Local) -> tuple[str, int] | None:
    """Of a=rtcp (RFC 3605), else the port after media's; None where neither can be used."""
    fields = (media.value("rtcp") or "").split()
    if fields and fields[0].isascii() and fields[0].isdigit() and len(fields[0]) <= 5:
        port = int(fields[0])
        if not 0 < port <= 65535:
            return None
        if len(fields) == 4:
            try:
                return _usable(fields[3], local), port
            except NotAcceptableError:
                return None
        return address[0], port
    return (address[0], address[1] + 1) if address[1] < 65535 else None


def _describe(
    local: Local,
    formats: Formats,
    direction: Direction,
    protocol: str,
    cryptos: Sequence[Crypto],
    rtcp_mux: bool,
) -> Media:
    numbers, attributes = describe(formats)
    attributes.extend(crypto.attribute() for crypto in cryptos)
    attributes.append(Attribute("ptime", PTIME))
    if local.rtcp_port != local.port + 1:
        attributes.append(Attribute("rtcp", str(local.rtcp_port)))
    if rtcp_mux:
        attributes.append(Attribute("rtcp-mux"))
    attributes.append(Attribute(direction.value))
    return Media("audio", local.port, protocol, numbers, attributes=tuple(attributes))


def _refused(media: Media) -> Media:
    return Media(media.kind, 0, media.protocol, media.formats)


def _session(local: Local, media: tuple[Media, ...]) -> SessionDescription:
    origin = Origin("-", local.session_id, 1, local.host)
    return SessionDescription(origin=origin, host=local.host, media=media)
