"""The formats of one audio stream: codecs, telephone events and comfort noise in an m= section.

Events and noise share the clock of the audio beside them (RFC 4733 §2.1, RFC 3389 §4): where
codecs of several clocks are offered, so are events of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ringtrue.telephony.codecs import Codec
from ringtrue.telephony.codecs.comfort_noise import CN
from ringtrue.telephony.sdp import Attribute, Media, RtpMap

EVENT: Final = "telephone-event"
EVENT_TYPES: Final = {8000: 101, 48000: 102}
"""Clock rate → payload type we offer telephone events as."""

DYNAMIC: Final = range(96, 128)

_STATIC: Final = {
    0: RtpMap("PCMU", 8000),
    8: RtpMap("PCMA", 8000),
    9: RtpMap("G722", 8000),
    13: RtpMap("CN", 8000),
}
"""Payload types that need no a=rtpmap (RFC 3551 §6)."""


@dataclass(frozen=True, slots=True)
class Formats:
    """What both sides know of one m= section, best first."""

    audio: tuple[tuple[int, Codec], ...]
    """Payload type and codec, tuned as the section asks."""

    events: Mapping[int, int] = field(default_factory=dict)
    """Clock rate → payload type."""

    noise: int | None = None
    """Payload type of comfort noise at 8 kHz."""

    @property
    def receive(self) -> dict[int, Codec]:
        """Payload type → codec of all that sounds, noise too."""
        taken = dict(self.audio)
        if self.noise is not None:
            taken[self.noise] = CN
        return taken

    def event_type(self, clock_rate: int) -> int | None:
        """Payload type of events beside a codec of ``clock_rate``; None where there are none."""
        if clock_rate in self.events:
            return self.events[clock_rate]
        return next(iter(self.events.values()), None)

    @property
    def numbers(self) -> frozenset[int]:
        """Every payload type there is."""
        return frozenset((*self.receive, *self.events.values()))


def offered_formats(codecs: Sequence[Codec], *, noise: bool) -> Formats:
    """Everything we have, as a first offer gives it."""
    return extended(Formats(()), codecs, noise=noise)


def extended(formats: Formats, codecs: Sequence[Codec], *, noise: bool) -> Formats:
    """``formats`` as agreed on, then what else we have under numbers that are free."""
    used = set(formats.numbers)

    def number(wanted: int) -> int:
        chosen: int = next(n for n in (wanted, *DYNAMIC) if n not in used)
        used.add(chosen)
        return chosen

    audio = list(formats.audio)
    for codec in codecs:
        if all(codec.name != other.name for _, other in audio):
            audio.append((number(codec.payload_type), codec))
    clocks = dict.fromkeys(codec.clock_rate for _, codec in audio)
    events = dict(formats.events)
    for clock in clocks:
        if clock not in events:
            events[clock] = number(EVENT_TYPES[clock])
    kept = formats.noise
    if noise and kept is None and CN.clock_rate in clocks:
        kept = number(CN.payload_type)
    return Formats(tuple(audio), events, kept)


def common_formats(
    media: Media, codecs: Sequence[Codec], *, noise: bool, own_order: bool = False
) -> Formats:
    """What ``media`` and we both have: in its order, or in that of ``codecs``."""
    maps = _STATIC | media.rtpmaps()
    parameters = media.fmtps()
    audio: list[tuple[int, Codec]] = []
    events: dict[int, int] = {}
    quiet: int | None = None
    for number in dict.fromkeys(int(item) for item in media.formats):
        described = maps.get(number)
        if described is None:
            continue
        name = described.name.upper()
        if name == EVENT.upper() and described.channels == 1:
            events.setdefault(described.clock_rate, number)
        elif name == CN.name and described.clock_rate == CN.clock_rate and quiet is None:
            quiet = number
        for codec in codecs:
            if (name, described.clock_rate, described.channels) == (
                codec.name.upper(),
                codec.clock_rate,
                codec.channels,
            ):
                audio.append((number, codec.tuned(parameters.get(number, ""))))
    if own_order:
        rank = {codec.name: place for place, codec in enumerate(codecs)}
        audio.sort(key=lambda item: rank[item[1].name])
    clocks = {codec.clock_rate for _, codec in audio}
    # some phones name 8000 Hz beside Opus: better their digits in a wrong clock than none
    kept = {clock: number for clock, number in events.items() if clock in clocks} or events
    return Formats(tuple(audio), kept, quiet if noise and CN.clock_rate in clocks else None)


def describe(formats: Formats) -> tuple[tuple[str, ...], list[Attribute]]:
    """The formats of an m= line, and their attributes."""
    numbers: list[str] = []
    attributes: list[Attribute] = []

    def add(number: int, encoding: str, parameters: str | None) -> None:
        numbers.append(str(number))
        attributes.append(Attribute("rtpmap", f"{number} {encoding}"))
        if parameters is not None:
            attributes.append(Attribute("fmtp", f"{number} {parameters}"))

    for number, codec in formats.audio:
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        add(number, f"{codec.name}/{codec.clock_rate}{channels}", codec.parameters)
    if formats.noise is not None:
        add(formats.noise, f"{CN.name}/{CN.clock_rate}", None)
    for clock, number in formats.events.items():
        add(number, f"{EVENT}/{clock}", "0-15")
    return tuple(numbers), attributes
