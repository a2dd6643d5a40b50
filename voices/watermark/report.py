"""What a search of a file found, in words that JSON has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.detector import CURVE_SECONDS, FALSE_ALARM, Detection
from ringtrue.voices.watermark.marker import mark_id
from ringtrue.voices.watermark.stretches import Stretch

POINTS: Final = 1500
"""Values of a curve at most; longer ones keep the largest of several."""


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What a mark says. Its MAC is valid, or nothing would be said."""

    id: str
    """Format, key and session: what the audit log calls the mark."""

    session: str
    """8 hexadecimal digits."""

    time: str
    """When the session began, to the minute: ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class StretchReport:
    """A part of the recording that one mark runs through."""

    start: float
    """Seconds."""

    end: float
    key: str
    """Id of the key that finds it."""

    significance: float
    """log10 of how much likelier this part is with the mark than without."""

    speed: float
    """How much faster the recording runs than it was marked."""

    inverted: bool
    """Whether it is turned upside down."""

    token: TokenReport | None
    """None without the secret key, or where the part is too short or too faint to be read."""


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """One channel of the recording."""

    false_alarm: float
    """Bound on the probability that an unmarked channel shows as much."""

    stretches: tuple[StretchReport, ...]
    curve: tuple[float, ...] = field(repr=False)
    """log10 of the evidence over time; it begins anew every 4.8 s."""

    curve_seconds: float
    """From one value to the next."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a search found."""

    found: bool
    """Whether the recording carries a mark of one of the keys: was made by who holds them."""

    false_alarm: float
    """Bound on the probability that a search like this finds as much in an unmarked recording."""

    threshold: float
    """The false-alarm probability at or below which a mark counts as found."""

    seconds: float
    """How much was searched."""

    keys: tuple[str, ...]
    """Ids of the keys that were looked for."""

    thorough: bool
    """Whether other speeds were tried too."""

    rate: int
    """Of the recording, in Hz."""

    codec: str
    channels: tuple[ChannelReport, ...]

    @classmethod
    def of(
        cls, detections: Sequence[Detection], *, thorough: bool, rate: int, codec: str
    ) -> Report:
        """From each channel's detection; there is at least one."""
        alarm = min(1.0, len(detections) * min(each.false_alarm for each in detections))
        found = alarm <= FALSE_ALARM
        return cls(
            found=found,
            false_alarm=alarm,
            threshold=FALSE_ALARM,
            seconds=max(each.seconds for each in detections),
            keys=detections[0].keys,
            thorough=thorough,
            rate=rate,
            codec=codec,
            channels=tuple(_channel(each, found) for each in detections),
        )

    @property
    def tokens(self) -> tuple[TokenReport, ...]:
        """The tokens that were read, each once, in order."""
        stretches = sorted(
            (stretch for channel in self.channels for stretch in channel.stretches),
            key=lambda each: each.start,
        )
        return tuple(dict.fromkeys(each.token for each in stretches if each.token is not None))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def to_json(self) -> bytes:
        """For another process."""
        return json.dumps(self.to_dict()).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """What :meth:`to_json` made."""
        fields = json.loads(data)
        fields["keys"] = tuple(fields["keys"])
        fields["channels"] = tuple(_read_channel(each) for each in fields["channels"])
        return cls(**fields)


def _channel(detection: Detection, found: bool) -> ChannelReport:
    values, every = _thinned(detection.curve)
    return ChannelReport(
        false_alarm=detection.false_alarm,
        stretches=tuple(map(_stretch, detection.stretches)) if found else (),
        curve=tuple(round(float(value), 2) for value in values),
        curve_seconds=every * CURVE_SECONDS,
    )


def _stretch(found: Stretch) -> StretchReport:
    token = None
    if found.token is not None:
        token = TokenReport(
            id=mark_id(found.key, found.token),
            session=f"{found.token.session:08x}",
            time=found.token.time.isoformat(timespec="minutes"),
        )
    return StretchReport(
        start=round(found.start, 3),
        end=round(found.end, 3),
        key=found.key,
        significance=round(found.significance, 2),
        speed=round(found.speed, 6),
        inverted=found.inverted,
        token=token,
    )


def _thinned(curve: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], int]:
    every = max(1, -(-len(curve) // POINTS))
    padded = np.pad(curve, (0, -len(curve) % every))
    return padded.reshape(-1, every).max(axis=1) if len(curve) else curve, every


def _read_channel(fields: dict[str, Any]) -> ChannelReport:
    stretches = []
    for each in fields["stretches"]:
        token = TokenReport(**each["token"]) if each["token"] is not None else None
        stretches.append(StretchReport(**each | {"token": token}))
    return ChannelReport(
        **fields | {"stretches": tuple(stretches), "curve": tuple(fields["curve"])}
    )
