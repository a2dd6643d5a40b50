"""What is kept of a cloned voice: how to turn a Flite voice's parameters into the speaker's.

Every 5 ms frame of a base voice is transformed on its own: an affine map of the mel-cepstrum that
depends on voicing and on the phone's class, a line in log F0, a line in the log odds of the
voicing strengths, and an expander for what is quiet. About 9 kB for each voice.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.ssml import Style
from ringtrue.voices.cloning.hush import hushed
from ringtrue.voices.cloning.movement import enlivened
from ringtrue.voices.cloning.phones import CLASSES, class_weights, voiceless
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.flite import VOICES, Parameters
from ringtrue.voices.flite.frontend import BANDS, COEFFICIENTS
from ringtrue.voices.jit import compiled
from ringtrue.voices.prosody import F0_RANGE, styled
from ringtrue.voices.renderer import RenderedVoice

MAGIC: Final = b"RTclone"
VERSION: Final = 4
"""Version 1 knew the pulse vocoder only, version 2 no liveliness, version 3 no hush; their voices
still open, and sound as they did."""

_SCALARS: Final = {1: 6, 2: 7, 3: 8, 4: 10}
"""Numbers before the matrices, by version."""

_HEADER: Final = struct.Struct("<7sB8s")
_MATRICES: Final = (2, COEFFICIENTS, COEFFICIENTS)
_OFFSETS: Final = (2, CLASSES, COEFFICIENTS)
_STRENGTHS: Final = (2, BANDS)
_LIMIT: Final = 100.0
"""No number of a fitted voice comes near this."""

_RATES: Final = (0.7, 1.4)
_SPREADS: Final = (0.2, 5.0)
_ODDS_FLOOR: Final = 1e-3

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]


class BaseVoice(Protocol):
    """A Flite voice, or what gives the same parameters."""

    @property
    def name(self) -> str:
        """Which of Flite's voices."""
        ...

    @property
    def alpha(self) -> float:
        """Frequency warping of the mel-cepstrum."""
        ...

    def analyse(self, tokens: Sequence[str]) -> Parameters:
        """Parameters of one phrase."""
        ...


@dataclass(frozen=True, slots=True)
class PitchMap:
    """A line in log F0."""

    source: float
    """Median natural-log F0 of the base voice."""

    target: float
    """Median natural-log F0 of the clone: the speaker's, or on the way to it."""

    spread: float
    """How much wider the speaker's log F0 varies."""

    def __call__(self, f0: npt.NDArray[np.floating]) -> RealArray:
        """``f0`` (T,) in Hz mapped, within what the vocoder can do; 0 (unvoiced) stays 0."""
        voiced = f0 > 0
        log = np.log(np.where(voiced, f0, 1.0).astype(np.float64))
        mapped = np.exp((log - self.source) * self.spread + self.target)
        return np.where(voiced, np.clip(mapped, *F0_RANGE), 0.0)

    def eased(self, share: float, spread: float) -> PitchMap:
        """The line that moves the median ``share`` of the way, and widens by ``spread`` of what
        this one does.
        """
        return replace(
            self,
            target=self.source + share * (self.target - self.source),
            spread=1.0 + spread * (self.spread - 1.0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CloneModel:
    """A cloned voice of the embedded engine."""

    base: str
    """The Flite voice it is made from."""

    pitch: PitchMap
    matrices: RealArray
    """(2, 25, 25): for unvoiced and voiced frames, mel-cepstrum in, mel-cepstrum out."""

    offsets: RealArray
    """(2, CLASSES, 25): added after it, by voicing and phone class."""

    strengths: RealArray
    """(2, 5): factor and offset of each band's voicing strength in log odds."""

    rate: float = 1.0
    """How much faster than the base voice it speaks."""

    postfilter: float = 0.0
    """Formant sharpening the vocoder adds, see :class:`~ringtrue.voices.vocoder.Vocoder`."""

    devoice: bool = False
    """Whether voiceless phones lose the pitch the base voice gives them."""

    neural: bool = False
    """Whether the neural vocoder speaks, :mod:`ringtrue.voices.fargan`, and not the pulse one."""

    liveliness: float = 0.0
    """By what share more the base voice's cepstra move, see :mod:`.movement`."""

    hush: float = 0.0
    """Nepers by which what is quiet is made quieter, see :mod:`.hush`."""

    loud: float = 0.0
    """Level of its loud frames, from which quiet is reckoned; nepers, as c0."""

    def __post_init__(self) -> None:
        _check(self)

    def source(self, voice: BaseVoice) -> ClonedSource:
        """``voice``'s parameters, transformed. Raises ``ValueError`` for another base voice."""
        if voice.name != self.base:
            raise ValueError(f"this clone is made from voice {self.base}, got {voice.name}")
        return ClonedSource(self, voice)

    def rendered(self, voice: BaseVoice) -> RenderedVoice:
        """The clone with its vocoder at the common level, ready to speak.

        Its numbers may be anybody's, so overflow is no surprise: the gain says what came of them.
        Raises as :meth:`source`, and as :func:`~ringtrue.voices.renderer.vocoder_for`.
        """
        with np.errstate(all="ignore"):
            return RenderedVoice(self.source(voice), self.postfilter, neural=self.neural)

    def transform(self, found: Parameters) -> Parameters:
        """``found`` of the base voice, as the speaker says it. Pure; for many threads at once."""
        if self.rate != 1.0 and found.token_ends:
            found = styled(found, [Style(rate=self.rate)] * len(found.token_ends))
        frames = len(found.f0)
        if self.devoice:
            quiet = voiceless(found.phones, frames)
            found = replace(found, f0=np.where(quiet, np.float32(0.0), found.f0))
        mcep = np.empty((frames, COEFFICIENTS))
        _transform(
            enlivened(found.mcep, self.liveliness),
            (found.f0 > 0).astype(np.int64),
            class_weights(found.phones, frames),
            self.matrices,
            self.offsets,
            mcep,
        )
        return replace(
            found,
            f0=self.pitch(found.f0).astype(np.float32),
            mcep=hushed(mcep, self.loud, self.hush).astype(np.float32),
            strengths=self._strengths(found.strengths),
        )

    def _strengths(self, strengths: FloatArray) -> FloatArray:
        share = np.clip(strengths.astype(np.float64), _ODDS_FLOOR, 1.0 - _ODDS_FLOOR)
        odds = np.log(share / (1.0 - share)) * self.strengths[0] + self.strengths[1]
        return np.asarray(1.0 / (1.0 + np.exp(-odds)), np.float32)

    def to_bytes(self) -> bytes:
        """The model, versioned; the same model gives the same bytes."""
        header = _HEADER.pack(MAGIC, VERSION, self.base.encode("ascii"))
        pitch = [self.pitch.source, self.pitch.target, self.pitch.spread]
        switches = [float(self.devoice), float(self.neural)]
        dynamics = [self.liveliness, self.hush, self.loud]
        numbers = np.concatenate(
            [
                np.array([*pitch, self.rate, self.postfilter, *switches, *dynamics]),
                self.matrices.ravel(),
                self.offsets.ravel(),
                self.strengths.ravel(),
            ]
        )
        return header + numbers.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> CloneModel:
        """The model of :meth:`to_bytes`, its numbers rounded to single precision.

        Raises :class:`~ringtrue.voices.errors.EngineStateError` for anything else.
        """
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise EngineStateError("this is no cloned voice of the embedded engine")
        _, version, name = _HEADER.unpack_from(data)
        if version not in _SCALARS:
            raise EngineStateError(
                f"cloned voice of version {version}; known are {', '.join(map(str, _SCALARS))}"
            )
        shapes = ((_SCALARS[version],), _MATRICES, _OFFSETS, _STRENGTHS)
        count = sum(int(np.prod(shape)) for shape in shapes)
        if len(data) != _HEADER.size + 4 * count:
            raise EngineStateError(
                f"a cloned voice has {_HEADER.size + 4 * count} bytes, got {len(data)}"
            )
        with np.errstate(invalid="ignore"):  # what is no number is refused below
            numbers = np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float64)
        parts: list[RealArray] = []
        at = 0
        for shape in shapes:
            size = int(np.prod(shape))
            parts.append(numbers[at : at + size].reshape(shape))
            at += size
        given = np.zeros(_SCALARS[VERSION])
        given[: len(parts[0])] = parts[0]
        rate, postfilter, devoice, neural, liveliness, hush, loud = map(float, given[3:])
        try:
            base = name.rstrip(b"\0").decode("ascii")
            pitch = PitchMap(*map(float, given[:3]))
            return cls(
                base,
                pitch,
                parts[1],
                parts[2],
                parts[3],
                rate=rate,
                postfilter=postfilter,
                devoice=devoice > 0.5,
                neural=neural > 0.5,
                liveliness=liveliness,
                hush=hush,
                loud=loud,
            )
        except ValueError as error:
            raise EngineStateError(f"not a usable cloned voice: {error}") from error


class ClonedSource:
    """The cloned voice's parameters; what a renderer takes in place of a Flite voice."""

    def __init__(self, model: CloneModel, voice: BaseVoice) -> None:
        """Use :meth:`CloneModel.source`."""
        self._model = model
        self._voice = voice

    @property
    def alpha(self) -> float:
        """Frequency warping of the mel-cepstrum."""
        return self._voice.alpha

    def analyse(self, tokens: Sequence[str]) -> Parameters:
        """As :meth:`ringtrue.voices.flite.FliteVoice.analyse`, as the speaker says it."""
        return self._model.transform(self._voice.analyse(tokens))


def _check(model: CloneModel) -> None:
    if model.base not in VOICES:
        raise ValueError(f"base voice is {model.base!r}; allowed: {', '.join(VOICES)}")
    arrays = (("matrices", _MATRICES), ("offsets", _OFFSETS), ("strengths", _STRENGTHS))
    for name, shape in arrays:
        values: RealArray = getattr(model, name)
        if values.shape != shape:
            raise ValueError(f"{name} have shape {values.shape}; it must be {shape}")
        if not (np.abs(values) <= _LIMIT).all():
            raise ValueError(f"{name} must be finite and within ±{_LIMIT:g}")
    low, high = (float(np.log(hertz)) for hertz in F0_RANGE)
    bounds = (
        ("source pitch", model.pitch.source, low, high),
        ("target pitch", model.pitch.target, low, high),
        ("pitch spread", model.pitch.spread, *_SPREADS),
        ("rate", model.rate, *_RATES),
        ("postfilter", model.postfilter, 0.0, 1.0),
        ("liveliness", model.liveliness, 0.0, 2.0),
        ("hush", model.hush, 0.0, 5.0),
        ("loud level", model.loud, -_LIMIT, _LIMIT),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            raise ValueError(f"{name} is {value:g}; allowed: {least:g} to {most:g}")


@compiled
def _transform(
    mcep: RealArray,
    voiced: npt.NDArray[np.int64],
    weights: RealArray,
    matrices: RealArray,
    offsets: RealArray,
    out: RealArray,
) -> None:
    """Row by row in one order, so a frame's result does not depend on those around it."""
    for t in range(mcep.shape[0]):
        v = voiced[t]
        for i in range(mcep.shape[1]):
            total = 0.0
            for c in range(weights.shape[1]):
                total += weights[t, c] * offsets[v, c, i]
            for j in range(mcep.shape[1]):
                total += matrices[v, i, j] * mcep[t, j]
            out[t, i] = total
