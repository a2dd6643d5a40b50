"""Marks 20 ms at a time: keyed excitation under the host's own spectral envelope.

Each frame is analysed by LPC over a window reaching 10 ms back; the chips are scaled by the
envelope of the prediction residual (less where it is strongly voiced, more where it is quiet),
filtered by ``1/A(z/0.95)`` and added. The host itself is never delayed or filtered. A 16 kHz host
is halved for the analysis, and the mark, made at 8 kHz, is interpolated to it.

After Cheng & Sorensen, "Spread spectrum signaling for speech watermarking" (ICASSP 2001); the
constants come from measurements on telephone speech.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import (
    CHIP_RATE,
    FRAME_CHIPS,
    PERIOD,
    PERIOD_FRAMES,
    SYMBOL_CHIPS,
    SYMBOLS,
    Chips,
    MarkKey,
)
from ringtrue.voices.watermark.lpc import RealArray, lag_window, predict

RATES: Final = (8000, 16000)

Pcm = npt.NDArray[np.int16]

ORDER: Final = 10
SUBFRAME: Final = 20
SUBFRAMES: Final = FRAME_CHIPS // SUBFRAME
BACK: Final = 80
"""Samples before the frame that the analysis reaches back: 10 ms."""

HISTORY: Final = BACK + ORDER
RESIDUAL_HISTORY: Final = 304
SHORTEST_LAG: Final = 20
LONGEST_LAG: Final = 146
"""Pitch periods looked for, in samples: 55 to 400 Hz."""

STRENGTH: Final = 0.135
"""Chips' rms relative to the residual's."""

PILOT_SHARE: Final = 0.45
"""Of the mark's power, what the pilot has; the token has the rest."""

BANDWIDTH: Final = 0.95
QUIET_LSB: Final = 15.0
"""Frames below this rms don't move the level the strength is adapted to."""

ENVELOPE_CAP: Final = 2.0
TILT: Final = -0.18
COMFORT_LSB: Final = 8.0
"""Excitation's rms in silence, in steps of 16-bit PCM (−72 dBFS)."""

HALF_BAND_TAPS: Final = 23

_WINDOW: Final[RealArray] = np.concatenate(
    [np.sin(np.linspace(0, np.pi / 2, 120)), np.cos(np.linspace(0, np.pi / 2.3, 120))]
)
_LAG_WINDOW: Final[RealArray] = lag_window(ORDER, CHIP_RATE)


def _half_band() -> RealArray:
    n = np.arange(HALF_BAND_TAPS) - HALF_BAND_TAPS // 2
    taps = 0.5 * np.sinc(0.5 * n) * np.hamming(HALF_BAND_TAPS)
    return np.asarray(taps / taps.sum(), np.float64)


_TAPS: Final[RealArray] = _half_band()


def excitation(key: MarkKey, symbols: npt.NDArray[np.float64]) -> Chips:
    """One period of chips, pilot and data, unit power; ``symbols`` are ±1, ``(SYMBOLS,)``."""
    if symbols.shape != (SYMBOLS,):
        raise WatermarkError(f"a period carries {SYMBOLS} symbols, got shape {symbols.shape}")
    data = key.carrier * np.repeat(symbols, SYMBOL_CHIPS)
    chips = math.sqrt(PILOT_SHARE) * key.detection.pilot + math.sqrt(1 - PILOT_SHARE) * data
    return tilted(chips)


def tilted(chips: Chips) -> Chips:
    """A period of chips, lifted towards high frequencies; power as before."""
    shaped = chips + TILT * (np.roll(chips, 1) + np.roll(chips, -1))
    return np.asarray(shaped / math.sqrt(1 + 2 * TILT**2), np.float64)


class Bank:
    """Legs of one rate that are marked together: their states side by side, one call a tick."""

    def __init__(self, rate: int, legs: int) -> None:
        """Room for ``legs`` legs at ``rate`` Hz.

        Raises :class:`WatermarkError` for another rate or for no leg.
        """
        if rate not in RATES:
            raise WatermarkError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        if legs < 1:
            raise WatermarkError(f"a bank has at least one leg, got {legs}")
        self.rate = rate
        self.samples = rate // 50
        """Of one frame."""

        self._free = list(range(legs - 1, -1, -1))
        self._chips = np.zeros((legs, PERIOD))
        self._strength = np.zeros(legs)
        self._frame = np.zeros(legs, np.int64)
        self._host = np.zeros((legs, HISTORY))
        self._residual = np.zeros((legs, RESIDUAL_HISTORY))
        self._shaped = np.zeros((legs, ORDER))
        self._levels = np.zeros((legs, 2))
        """Gain at the end of the last frame; mean square of the host where it isn't quiet."""

        self._wide_host = np.zeros((legs, HALF_BAND_TAPS - 1))
        self._wide_mark = np.zeros((legs, (HALF_BAND_TAPS + 1) // 2))

    def join(self, chips: Chips, *, strength: float = STRENGTH) -> int:
        """Take in a leg that is marked with ``chips`` from :func:`excitation`; returns its number.

        Raises :class:`WatermarkError` for another shape, a strength outside 0 … 1, or where there
        is no room.
        """
        if chips.shape != (PERIOD,):
            raise WatermarkError(f"a period has {PERIOD} chips, got shape {chips.shape}")
        if not 0 < strength < 1:
            raise WatermarkError(f"strength must be above 0 and below 1, got {strength}")
        if not self._free:
            raise WatermarkError(f"the bank is full: it has {len(self._chips)} legs")
        leg = self._free.pop()
        self._chips[leg] = chips
        self._strength[leg] = strength
        for state in (self._host, self._residual, self._shaped, self._levels):
            state[leg] = 0.0
        self._wide_host[leg] = self._wide_mark[leg] = 0.0
        self._frame[leg] = 0
        return leg

    def rest(self, legs: npt.NDArray[np.int64]) -> None:
        """Forget what ``legs`` sounded like, so that the mark of a host that was cut off doesn't
        ring on into the silence after it.
        """
        for state in (self._host, self._residual, self._shaped, self._wide_host, self._wide_mark):
            state[legs] = 0.0
        self._levels[legs, 0] = 0.0

    def leave(self, leg: int) -> None:
        """Make room for another leg."""
        self._free.append(leg)

    def mark(self, legs: npt.NDArray[np.int64], pcm: Pcm) -> Pcm:
        """One frame of each of ``legs``, marked: ``(n, samples)`` in and out, no delay.

        Raises :class:`WatermarkError` for another shape.
        """
        if pcm.shape != (len(legs), self.samples):
            raise WatermarkError(
                f"{len(legs)} legs take shape {(len(legs), self.samples)}, got {pcm.shape}"
            )
        out = np.empty(pcm.shape, np.int16)
        _mark_all(
            legs,
            pcm,
            self._chips,
            self._strength,
            self._frame,
            self._host,
            self._residual,
            self._shaped,
            self._levels,
            self._wide_host,
            self._wide_mark,
            _WINDOW,
            _LAG_WINDOW,
            _TAPS,
            out,
        )
        return out


class Embedder:
    """Marks one leg. Not for two threads at a time."""

    def __init__(self, chips: Chips, rate: int, *, strength: float = STRENGTH) -> None:
        """Mark PCM at ``rate`` Hz with ``chips`` from :func:`excitation`.

        Raises :class:`WatermarkError` for another rate, shape or a strength outside 0 … 1.
        """
        self._bank = Bank(rate, 1)
        self._legs = np.array([self._bank.join(chips, strength=strength)])

    def rest(self) -> None:
        """Forget the sound before; see :meth:`Bank.rest`."""
        self._bank.rest(self._legs)

    def mark(self, pcm: bytes) -> bytes:
        """One frame of 16-bit PCM, marked; same length, no delay.

        Raises :class:`WatermarkError` unless it is one whole frame.
        """
        size = 2 * self._bank.samples
        if len(pcm) != size:
            raise WatermarkError(f"a frame has {size} bytes, got {len(pcm)}")
        host = np.frombuffer(pcm, "<i2").reshape(1, -1)
        return self._bank.mark(self._legs, host).tobytes()


@compiled
def _voicing(residual: RealArray, energy: float) -> float:
    """Highest normalised correlation of the frame's residual with its past, 0 to 1."""
    # All lags side by side, the longest first: their samples are in order then, for vectors.
    lags = LONGEST_LAG - SHORTEST_LAG + 1
    cross = np.zeros(lags)
    power = np.full(lags, 1e-3)
    for n in range(0, FRAME_CHIPS, 2):
        sample = residual[RESIDUAL_HISTORY + n]
        past = residual[RESIDUAL_HISTORY + n - LONGEST_LAG : RESIDUAL_HISTORY + n]
        for j in range(lags):
            cross[j] += sample * past[j]
            power[j] += past[j] * past[j]
    best = 0.0
    for j in range(lags):
        if cross[j] > 0.0:
            best = max(best, cross[j] * cross[j] / power[j])
    return math.sqrt(min(1.0, best / (0.5 * energy + 1e-3)))


@compiled
def _shape(
    host: RealArray,
    chips: RealArray,
    strength: float,
    history: RealArray,
    past_residual: RealArray,
    shaped: RealArray,
    levels: RealArray,
    window: RealArray,
    lags: RealArray,
    mark: RealArray,
) -> None:
    """The mark of one frame of ``host`` at 8 kHz."""
    segment = np.empty(HISTORY + FRAME_CHIPS)
    segment[:HISTORY] = history
    segment[HISTORY:] = host
    inverse = np.empty(ORDER + 1)
    predict(segment[ORDER:], window, lags, 4.0 * (BACK + FRAME_CHIPS), inverse)
    residual = np.empty(RESIDUAL_HISTORY + FRAME_CHIPS)
    residual[:RESIDUAL_HISTORY] = past_residual
    whitened = residual[RESIDUAL_HISTORY:]
    whitened[:] = 0.0
    for k in range(ORDER + 1):
        delayed = segment[HISTORY - k : HISTORY - k + FRAME_CHIPS]
        for n in range(FRAME_CHIPS):
            whitened[n] += inverse[k] * delayed[n]
    energy, power = 0.0, 0.0
    for n in range(FRAME_CHIPS):
        energy += whitened[n] * whitened[n]
        power += host[n] * host[n]
    power /= FRAME_CHIPS
    scale = strength * (1.5 - _voicing(residual, energy))
    level = math.sqrt(power)
    if level > QUIET_LSB:
        levels[1] = levels[1] + 0.02 * (power - levels[1]) if levels[1] > 0.0 else power
        scale *= max(0.5, min(2.0, (level / math.sqrt(levels[1])) ** -0.5))
    rms = math.sqrt(energy / FRAME_CHIPS)
    previous = levels[0]
    for j in range(SUBFRAMES):
        total = 0.0
        for i in range(SUBFRAME):
            total += residual[RESIDUAL_HISTORY + j * SUBFRAME + i] ** 2
        gain = max(COMFORT_LSB, scale * min(rms, ENVELOPE_CAP * math.sqrt(total / SUBFRAME)))
        for i in range(SUBFRAME):
            part = (i + 0.5) / SUBFRAME
            n = j * SUBFRAME + i
            mark[n] = (previous * (1.0 - part) + gain * part) * chips[n]
        previous = gain
    levels[0] = previous
    widened = np.empty(ORDER + 1)
    factor = 1.0
    for k in range(1, ORDER + 1):
        factor *= BANDWIDTH
        widened[k] = inverse[k] * factor
    ringing = np.empty(ORDER + FRAME_CHIPS)
    ringing[:ORDER] = shaped
    for n in range(FRAME_CHIPS):
        total = mark[n]
        for k in range(1, ORDER + 1):
            total -= widened[k] * ringing[ORDER + n - k]
        ringing[ORDER + n] = total
    mark[:] = ringing[ORDER:]
    shaped[:] = ringing[FRAME_CHIPS:]
    history[:] = segment[FRAME_CHIPS:]
    past_residual[:] = residual[FRAME_CHIPS:]


@compiled
def _add(host: Pcm, mark: RealArray, out: Pcm) -> None:
    """Host and mark, kept within 16 bits."""
    for n in range(host.shape[0]):
        total = np.rint(host[n] + mark[n])
        out[n] = np.int16(max(-32768.0, min(32767.0, total)))


@compiled
def _mark_all(
    legs: npt.NDArray[np.int64],
    pcm: Pcm,
    chips: RealArray,
    strength: RealArray,
    frame: npt.NDArray[np.int64],
    host: RealArray,
    residual: RealArray,
    shaped: RealArray,
    levels: RealArray,
    wide_host: RealArray,
    wide_mark: RealArray,
    window: RealArray,
    lags: RealArray,
    taps: RealArray,
    out: Pcm,
) -> None:
    """A frame of each leg; every leg's state is its row of the arrays."""
    mark = np.empty(FRAME_CHIPS)
    for row in range(legs.shape[0]):
        leg = legs[row]
        at = frame[leg] * FRAME_CHIPS
        frame[leg] = (frame[leg] + 1) % PERIOD_FRAMES
        narrow = np.empty(FRAME_CHIPS)
        if pcm.shape[1] == FRAME_CHIPS:
            narrow[:] = pcm[row]
        else:
            _halve(pcm[row], wide_host[leg], taps, narrow)
        _shape(
            narrow,
            chips[leg, at : at + FRAME_CHIPS],
            strength[leg],
            host[leg],
            residual[leg],
            shaped[leg],
            levels[leg],
            window,
            lags,
            mark,
        )
        if pcm.shape[1] == FRAME_CHIPS:
            _add(pcm[row], mark, out[row])
        else:
            wide = np.empty(pcm.shape[1])
            _double(mark, wide_mark[leg], taps, wide)
            _add(pcm[row], wide, out[row])


@compiled
def _halve(pcm: Pcm, past: RealArray, taps: RealArray, out: RealArray) -> None:
    """16 kHz to 8 kHz; ``past`` holds the samples before."""
    count = taps.shape[0]
    samples = pcm.shape[0]
    buffer = np.empty(count - 1 + samples)
    buffer[: count - 1] = past
    buffer[count - 1 :] = pcm
    for n in range(out.shape[0]):
        total = 0.0
        for k in range(count):
            total += taps[k] * buffer[2 * n + count - k]
        out[n] = total
    past[:] = buffer[samples:]


@compiled
def _double(mark: RealArray, past: RealArray, taps: RealArray, out: RealArray) -> None:
    """8 kHz to 16 kHz; ``past`` holds the mark before."""
    count = taps.shape[0]
    held = past.shape[0]
    buffer = np.empty(held + mark.shape[0])
    buffer[:held] = past
    buffer[held:] = mark
    for m in range(out.shape[0]):
        total = 0.0
        k, at = m & 1, m >> 1
        while k < count:
            total += taps[k] * buffer[held + at - (k >> 1)]
            k += 2
        out[m] = 2.0 * total
    past[:] = buffer[mark.shape[0] :]
