"""Incremental vocoder: 5 ms frames of pitch, mel-cepstrum and voicing in, 16 kHz samples out.

Pulse train and noise are shaped by the frame's minimum-phase envelope and overlap-added. The
envelope is evaluated directly on the warped frequency axis of the mel-cepstrum (all-pass warping,
Tokuda et al., ICASSP 1994), so no frame depends on how many came with it: any chunking gives the
same samples, bit for bit. Nothing looks ahead; the centre of a frame is heard one frame (80
samples) after the frame's own start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled
from ringtrue.voices.spectrum import (
    BINS,
    HALF,
    REVERSED,
    SIZE,
    TWIDDLES,
    ComplexArray,
    IndexArray,
    RealArray,
    forward,
    inverse,
)

RATE: Final = 16000
HOP: Final = 80
"""Samples per frame: 5 ms."""

DELAY: Final = HOP
"""Samples from a frame's start in the input to the same moment in the output."""

TAIL: Final = SIZE - HOP
"""Samples still ringing after the last frame."""

BAND_CENTRES: Final = (375.0, 1300.0, 2875.0, 5075.0, 7125.0)
"""Hz; centres of the five voicing bands (edges 0, 750, 1850, 3900, 6250, 8000)."""

_SEED: Final = 0x9E3779B97F4A7C15
_WINDOW: Final[RealArray] = np.hanning(2 * HOP + 1)[: 2 * HOP]


class VocoderStream(Protocol):
    """One utterance being vocoded. Not for two threads at a time."""

    def render(self, f0: npt.ArrayLike, mcep: npt.ArrayLike, strengths: npt.ArrayLike) -> RealArray:
        """The next T frames, as :meth:`Vocoder.render` takes them; what is ready of the sound."""
        ...

    def finish(self) -> RealArray:
        """The rest of the sound."""
        ...


class AnyVocoder(Protocol):
    """What turns parameters to sound, for many streams."""

    @property
    def delay(self) -> int:
        """Samples from a frame's start in the input to the same moment in the output."""
        ...

    def stream(self) -> VocoderStream:
        """A new utterance."""
        ...


def _band_weights() -> RealArray:
    frequencies = np.arange(BINS) * RATE / SIZE
    unit = np.eye(len(BAND_CENTRES))
    return np.stack([np.interp(frequencies, BAND_CENTRES, row) for row in unit], axis=1)


_BAND_WEIGHTS: Final[RealArray] = _band_weights()


@lru_cache(maxsize=8)
def _tables(alpha: float, order: int) -> tuple[RealArray, RealArray]:
    """Cosines and sines of the warped frequencies, each (order, BINS); never written to.

    Shared by all voices of one cepstrum format: they are most of what a voice would hold.
    """
    omega = np.pi * np.arange(BINS) / HALF
    warped = omega + 2 * np.arctan2(alpha * np.sin(omega), 1 - alpha * np.cos(omega))
    index = np.arange(order)[:, None]
    return np.ascontiguousarray(np.cos(index * warped)), np.ascontiguousarray(
        np.sin(index * warped)
    )


@dataclass(slots=True)
class VocoderState:
    """All that carries over from one frame to the next; about 5 kB."""

    overlap: RealArray = field(default_factory=lambda: np.zeros(SIZE))
    noise: RealArray = field(default_factory=lambda: np.zeros(HOP))
    pitch: RealArray = field(default_factory=lambda: np.zeros(2))
    """Samples until the next pulse; F0 of the last frame in Hz."""

    seed: npt.NDArray[np.uint64] = field(default_factory=lambda: np.array([_SEED], np.uint64))

    def copy(self) -> VocoderState:
        """An independent state that goes on as this one would."""
        return VocoderState(
            self.overlap.copy(), self.noise.copy(), self.pitch.copy(), self.seed.copy()
        )


class Vocoder:
    """Tables for one mel-cepstrum format; holds no stream's state, so all streams share it."""

    def __init__(self, alpha: float = 0.42, order: int = 25, postfilter: float = 0.0) -> None:
        """For cepstra of ``order`` coefficients warped by ``alpha``.

        ``postfilter`` sharpens formants: coefficients from the third on are scaled by one plus
        it, at equal energy (as Flite's ``mlsa_beta``); 0 leaves the envelope as it is.
        """
        if not 0.0 <= postfilter <= 1.0:
            raise ValueError(f"postfilter must lie in 0..1, got {postfilter}")
        self._cosines, self._sines = _tables(alpha, order)
        self._order = order
        self._sharpen = 1.0 + postfilter

    @property
    def delay(self) -> int:
        """:data:`DELAY`."""
        return DELAY

    def stream(self) -> PulseStream:
        """A new utterance."""
        return PulseStream(self)

    def render(
        self,
        state: VocoderState,
        f0: npt.ArrayLike,
        mcep: npt.ArrayLike,
        strengths: npt.ArrayLike,
    ) -> RealArray:
        """Vocode T frames and advance ``state``; returns T·80 samples.

        ``f0`` (T,) in Hz, 0 where unvoiced; ``mcep`` (T, order) of the natural-log magnitude;
        ``strengths`` (T, 5), 1 periodic .. 0 noise, used where voiced. Raises ``ValueError`` if
        the shapes disagree.
        """
        pitch = np.ascontiguousarray(f0, np.float64)
        cepstra = np.ascontiguousarray(mcep, np.float64)
        voicing = np.ascontiguousarray(strengths, np.float64)
        frames = pitch.shape[0]
        if cepstra.shape != (frames, self._order) or voicing.shape != (frames, len(BAND_CENTRES)):
            raise ValueError(
                f"{frames} pitches need cepstra ({frames}, {self._order}) and strengths "
                f"({frames}, {len(BAND_CENTRES)}), got {cepstra.shape} and {voicing.shape}"
            )
        out = np.empty(frames * HOP)
        _render(
            pitch,
            cepstra,
            voicing,
            self._sharpen,
            self._cosines,
            self._sines,
            _BAND_WEIGHTS,
            _WINDOW,
            REVERSED,
            TWIDDLES,
            state.overlap,
            state.noise,
            state.pitch,
            state.seed,
            out,
        )
        return out

    def finish(self, state: VocoderState) -> RealArray:
        """What still rings after the last frame: 432 samples. ``state`` starts anew after it."""
        tail = state.overlap[:TAIL].copy()
        fresh = VocoderState()
        state.overlap[:], state.noise[:] = fresh.overlap, fresh.noise
        state.pitch[:], state.seed[:] = fresh.pitch, fresh.seed
        return tail


class PulseStream:
    """A vocoder and one utterance's state."""

    def __init__(self, vocoder: Vocoder) -> None:
        """Start silent."""
        self._vocoder = vocoder
        self._state = VocoderState()

    def render(self, f0: npt.ArrayLike, mcep: npt.ArrayLike, strengths: npt.ArrayLike) -> RealArray:
        """As :meth:`Vocoder.render`."""
        return self._vocoder.render(self._state, f0, mcep, strengths)

    def finish(self) -> RealArray:
        """As :meth:`Vocoder.finish`."""
        return self._vocoder.finish(self._state)


@compiled
def _fresh_noise(noise: RealArray, seed: npt.NDArray[np.uint64]) -> None:
    """Unit-variance noise: three uniforms summed, from xorshift64* (Vigna, 2016)."""
    x = seed[0]
    for i in range(HOP):
        total = 0.0
        for _ in range(3):
            x ^= x >> np.uint64(12)
            x ^= x << np.uint64(25)
            x ^= x >> np.uint64(27)
            scrambled = x * np.uint64(2685821657736338717)
            total += float(scrambled >> np.uint64(11)) * (1.0 / 9007199254740992.0)
        noise[i] = (total - 1.5) * 2.0
    seed[0] = x


@compiled
def _envelope(
    cepstrum: RealArray,
    sharpen: float,
    cosines: RealArray,
    sines: RealArray,
    level: RealArray,
    phase: RealArray,
    envelope: ComplexArray,
) -> None:
    """``envelope`` := minimum-phase response of the mel-cepstrum at 257 frequencies."""
    for k in range(BINS):
        level[k] = 0.0
        phase[k] = 0.0
    for i in range(2, cepstrum.shape[0]):
        c = cepstrum[i]
        for k in range(BINS):
            level[k] += c * cosines[i, k]
            phase[k] -= c * sines[i, k]
    shift = 0.0
    if sharpen != 1.0:
        before = 0.0
        after = 0.0
        for k in range(BINS):
            tilt = cepstrum[1] * cosines[1, k]
            before += math.exp(2.0 * (tilt + level[k]))
            after += math.exp(2.0 * (tilt + sharpen * level[k]))
        shift = 0.5 * math.log(before / after)
    for k in range(BINS):
        magnitude = math.exp(cepstrum[0] + shift + cepstrum[1] * cosines[1, k] + sharpen * level[k])
        angle = sharpen * phase[k] - cepstrum[1] * sines[1, k]
        envelope[k] = complex(magnitude * math.cos(angle), magnitude * math.sin(angle))


@compiled
def _render(
    f0: RealArray,
    cepstra: RealArray,
    strengths: RealArray,
    sharpen: float,
    cosines: RealArray,
    sines: RealArray,
    band_weights: RealArray,
    window: RealArray,
    reverse: IndexArray,
    twiddles: ComplexArray,
    overlap: RealArray,
    noise: RealArray,
    pitch: RealArray,
    seed: npt.NDArray[np.uint64],
    out: RealArray,
) -> None:
    work = np.empty(HALF, np.complex128)
    envelope = np.empty(BINS, np.complex128)
    spectrum = np.empty(BINS, np.complex128)
    pulses = np.empty(BINS, np.complex128)
    level = np.empty(BINS)
    phase = np.empty(BINS)
    signal = np.empty(SIZE)
    wait = pitch[0]
    previous = pitch[1]
    for t in range(f0.shape[0]):
        _envelope(cepstra[t], sharpen, cosines, sines, level, phase, envelope)
        for i in range(HOP):
            signal[i] = noise[i] * window[i]
        _fresh_noise(noise, seed)
        for i in range(HOP):
            signal[HOP + i] = noise[i] * window[HOP + i]
        for i in range(2 * HOP, SIZE):
            signal[i] = 0.0
        forward(signal, spectrum, work, reverse, twiddles)

        current = f0[t]
        if current <= 0.0:
            for k in range(BINS):
                spectrum[k] *= envelope[k]
        else:
            if previous <= 0.0:
                wait = 0.0
                previous = current
            for k in range(BINS):
                pulses[k] = 0.0
            while wait < HOP:
                local = previous + (current - previous) * (wait / HOP)
                period = RATE / local
                turn = -2.0 * math.pi * (wait + 0.5 * HOP) / SIZE
                step = complex(math.cos(turn), math.sin(turn))
                rotor = complex(math.sqrt(period), 0.0)
                for k in range(BINS):
                    pulses[k] += rotor
                    rotor *= step
                wait += period
            wait -= HOP
            for k in range(BINS):
                periodic = 0.0
                for b in range(strengths.shape[1]):
                    periodic += band_weights[k, b] * strengths[t, b]
                periodic = min(max(periodic, 0.0), 1.0)
                spectrum[k] = envelope[k] * (
                    spectrum[k] * math.sqrt(1.0 - periodic) + pulses[k] * math.sqrt(periodic)
                )
        previous = current
        spectrum[0] = 0.0
        spectrum[HALF] = complex(spectrum[HALF].real, 0.0)
        inverse(spectrum, signal, work, reverse, twiddles)
        for i in range(SIZE):
            overlap[i] += signal[i]
        for i in range(HOP):
            out[t * HOP + i] = overlap[i]
        for i in range(SIZE - HOP):
            overlap[i] = overlap[i + HOP]
        for i in range(SIZE - HOP, SIZE):
            overlap[i] = 0.0
    pitch[0] = wait
    pitch[1] = previous
