"""Offers and answers for one audio stream, as pure functions (RFC 3264).

One audio stream over RTP/AVP is taken; every other stream of an offer is refused in place (port
0). The answer keeps the offerer's order of formats, less those we don't have.

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
from ringtrue.telephony.codecs import Codec
from ringtrue.telephony.sdp import (
    Attribute,
    Direction,
    Media,
    Origin,
    RtpMap,
    SdpError,
    SessionDescription,
)

PROTOCOL: Final = "RTP/AVP"
EVENT: Final = "telephone-event"
EVENT_TYPE: Final = 101
"""Payload type we offer telephone events as."""

PTIME: Final = "20"
"""We send 20 ms in every packet and take any length."""

_STATIC: Final = {0: RtpMap("PCMU", 8000), 8: RtpMap("PCMA", 8000), 9: RtpMap("G722", 8000)}
"""Payload types that need no a=rtpmap (RFC 3551 §6)."""


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


@dataclass(frozen=True, slots=True)
class _Formats:
    """The formats of one m= section that we have, in its order."""

    audio: tuple[tuple[int, Codec], ...]
    event: int | None


def make_offer(
    local: Local,
    codecs: Sequence[Codec],
    *,
    previous: SessionDescription | None = None,
    plan: AudioPlan | None = None,
) -> SessionDescription:
    """Our offer; with the ``previous`` description we sent and its ``plan``, a later one.

    A later offer keeps streams, payload types and their order (RFC 3264 §8).
    """
    if previous is None or plan is None:
        formats = [(codec.payload_type, codec) for codec in codecs]
        media: tuple[Media, ...] = (_describe(local, formats, EVENT_TYPE, Direction.SENDRECV),)
        return revised(_session(local, media), previous)
    used = set(plan.receive) | plan.receive_events
    free = (number for number in range(96, 128) if number not in used)
    agreed = [(number, codec) for number, codec in plan.receive.items()]
    for codec in codecs:
        if all(codec is not other for _, other in agreed):
            taken = codec.payload_type in used
            agreed.append((next(free) if taken else codec.payload_type, codec))
    event = min(plan.receive_events, default=None)
    if event is None:
        event = EVENT_TYPE if EVENT_TYPE not in used else next(free)
    described = _describe(local, agreed, event, Direction.SENDRECV)
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
    for index in _order(len(offer.media), plan):
        media = offer.media[index]
        if media.kind != "audio" or not media.port:
            continue
        if media.protocol != PROTOCOL:
            reason = f"only {PROTOCOL} is supported"
            continue
        formats = _common(media, codecs)
        if not formats.audio:
            reason = f"no common codec; supported: {', '.join(c.name for c in codecs)}"
            continue
        agreed = _plan(offer, index, formats, local)
        answered = _describe(local, formats.audio, formats.event, agreed.direction)
        if agreed.rtcp_mux:
            answered = replace(answered, attributes=(*answered.attributes, Attribute("rtcp-mux")))
        sections = tuple(
            answered if number == index else _refused(other)
            for number, other in enumerate(offer.media)
        )
        return revised(_session(local, sections), previous), agreed
    raise NotAcceptableError(reason)


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
        if media.kind != "audio" or media.protocol != PROTOCOL:
            raise NotAcceptableError(f"answered {PROTOCOL} audio with something else")
        formats = _common(media, codecs)
        if not formats.audio:
            raise NotAcceptableError("no common codec in the answer")
        plan = _plan(answer, index, formats, local)
        offered = _common(ours, codecs)
        # it sends with the types we offered (RFC 3264 §6.1); some mean their own
        receive = dict(plan.receive) | dict(offered.audio)
        events = plan.receive_events
        if offered.event is not None and formats.event is not None:
            events |= {offered.event}
        return replace(plan, receive=receive, receive_events=events)
    raise NotAcceptableError("the offer had no audio stream")


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


def _common(media: Media, codecs: Sequence[Codec]) -> _Formats:
    maps = _STATIC | media.rtpmaps()
    audio: list[tuple[int, Codec]] = []
    events: dict[int, int] = {}
    for number in dict.fromkeys(int(item) for item in media.formats):
        described = maps.get(number)
        if described is None or described.channels != 1:
            continue
        name = described.name.upper()
        if name == EVENT.upper():
            events.setdefault(described.clock_rate, number)
        for codec in codecs:
            if codec.name == name and codec.clock_rate == described.clock_rate:
                audio.append((number, codec))
    clock = audio[0][1].clock_rate if audio else 0
    return _Formats(tuple(audio), events.get(clock))


def _plan(remote: SessionDescription, index: int, formats: _Formats, local: Local) -> AudioPlan:
    media = remote.media[index]
    host = remote.media_host(media)
    if host is None:
        raise SdpError("no c= line for the audio stream")
    theirs = remote.direction(media)
    held = _is_hold(host)
    mux = media.value("rtcp-mux") is not None
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
        receive=dict(formats.audio),
        event_type=formats.event,
        receive_events=frozenset(() if formats.event is None else (formats.event,)),
        direction=Direction.of(sends=theirs.receives and not held, receives=theirs.sends),
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
    formats: Sequence[tuple[int, Codec]],
    event: int | None,
    direction: Direction,
) -> Media:
    attributes = [
        Attribute("rtpmap", f"{number} {codec.name}/{codec.clock_rate}")
        for number, codec in formats
    ]
    numbers = [str(number) for number, _ in formats]
    if event is not None:
        clock = formats[0][1].clock_rate
        numbers.append(str(event))
        attributes.append(Attribute("rtpmap", f"{event} {EVENT}/{clock}"))
        attributes.append(Attribute("fmtp", f"{event} 0-15"))
    attributes.append(Attribute("ptime", PTIME))
    if local.rtcp_port != local.port + 1:
        attributes.append(Attribute("rtcp", str(local.rtcp_port)))
    attributes.append(Attribute(direction.value))
    return Media("audio", local.port, PROTOCOL, tuple(numbers), attributes=tuple(attributes))


def _refused(media: Media) -> Media:
    return Media(media.kind, 0, media.protocol, media.formats)


def _session(local: Local, media: tuple[Media, ...]) -> SessionDescription:
    origin = Origin("-", local.session_id, 1, local.host)
    return SessionDescription(origin=origin, host=local.host, media=media)
