"""The mark of one frame: keyed chips under the host's own spectral envelope, as machine code.

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

from ringtrue.voices.jit import brief, compiled
from ringtrue.voices.watermark.keys import (
    CHIP_RATE,
    FRAME_CHIPS,
    PERIOD,
    SYMBOL_CHIPS,
    SYMBOLS,
)
from ringtrue.voices.watermark.lpc import RealArray, lag_window, predict

Pcm = npt.NDArray[np.int16]
Signs = npt.NDArray[np.int8]

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

LANES: Final = 128
"""Lags counted side by side: all of them, filled up to whole vectors."""

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
_TILTED: Final = math.sqrt(1 + 2 * TILT**2)

# Where things lie in a leg's state, one array so that the kernel takes few arguments.
STRENGTH_OF, PILOT_GAIN, DATA_GAIN, TOKEN = 0, 1, 2, 3
FIXED: Final = TOKEN + SYMBOLS
"""Entries that never change."""

LEVEL: Final = FIXED
"""Mean square of the host where it isn't quiet."""

GAIN: Final = LEVEL + 1
"""At the end of the last frame."""

HOST: Final = GAIN + 1
RINGING: Final = HOST + HISTORY
WIDE_HOST: Final = RINGING + ORDER
WIDE_MARK: Final = WIDE_HOST + HALF_BAND_TAPS - 1
RESIDUAL: Final = WIDE_MARK + (HALF_BAND_TAPS + 1) // 2
STATE: Final = RESIDUAL + RESIDUAL_HISTORY + FRAME_CHIPS


@compiled
def _chips(signs: Signs, state: RealArray, frame: int, out: RealArray) -> None:
    """The frame's chips, lifted towards high frequencies; unit power."""
    pilot, data = state[PILOT_GAIN], state[DATA_GAIN]
    begin = frame * FRAME_CHIPS
    raw = np.empty(FRAME_CHIPS + 2)
    for part in range(FRAME_CHIPS // SYMBOL_CHIPS):
        at = part * SYMBOL_CHIPS
        symbol = state[TOKEN + begin // SYMBOL_CHIPS + part]
        pilots = signs[0, begin + at : begin + at + SYMBOL_CHIPS]
        carriers = signs[1, begin + at : begin + at + SYMBOL_CHIPS]
        for n in range(SYMBOL_CHIPS):
            raw[1 + at + n] = pilot * pilots[n] + data * (carriers[n] * symbol)
    for n, at in ((0, begin - 1), (FRAME_CHIPS + 1, begin + FRAME_CHIPS)):  # the neighbours'
        at %= PERIOD
        raw[n] = pilot * signs[0, at] + data * (signs[1, at] * state[TOKEN + at // SYMBOL_CHIPS])
    for n in range(FRAME_CHIPS):
        out[n] = (raw[n + 1] + TILT * (raw[n] + raw[n + 2])) / _TILTED


@compiled
def _voicing(residual: RealArray, energy: float) -> float:
    """Highest normalised correlation of the frame's residual with its past, 0 to 1."""
    # All lags side by side, the longest first: their samples are in order then, for vectors.
    first = RESIDUAL_HISTORY - LONGEST_LAG
    lags = LONGEST_LAG - SHORTEST_LAG + 1
    cross = np.zeros(LANES)
    for n in range(0, FRAME_CHIPS, 8):
        at = RESIDUAL_HISTORY + n
        x0, x2, x4, x6 = residual[at], residual[at + 2], residual[at + 4], residual[at + 6]
        for j in range(LANES):
            total = cross[j] + x0 * residual[first + n + j]
            total += x2 * residual[first + n + 2 + j]
            total += x4 * residual[first + n + 4 + j]
            total += x6 * residual[first + n + 6 + j]
            cross[j] = total
    # Energies of every second sample over a frame, one a lag. Sums over windows are put together
    # from sums to the right and to the left of a fixed sample: taking away what leaves a window
    # would lose what is quiet behind what is loud.
    power = np.empty(lags)
    for phase in range(2):
        middle = first + phase + FRAME_CHIPS
        total = 1e-3
        for at in range(middle - 2, first + phase - 1, -2):
            total += residual[at] * residual[at]
            if at - first < lags:
                power[at - first] = total
        total = 0.0
        for at in range(middle, first + lags - 1 + FRAME_CHIPS - 1, 2):
            total += residual[at] * residual[at]
            power[at - first - FRAME_CHIPS + 2] += total
    best = 0.0
    for j in range(lags):
        if cross[j] > 0.0:
            best = max(best, cross[j] * cross[j] / power[j])
    return math.sqrt(min(1.0, best / (0.5 * energy + 1e-3)))


@compiled
def _shape(host: RealArray, state: RealArray, mark: RealArray) -> None:
    """The mark of one frame of ``host`` at 8 kHz; ``mark`` holds its chips before."""
    # Loops, where slices could be assigned: what checks those is ten times the code, and the
    # processor's cache for that is what a frame among all else of a tick goes through.
    segment = np.empty(HISTORY + FRAME_CHIPS)
    for n in range(HISTORY):
        segment[n] = state[HOST + n]
    for n in range(FRAME_CHIPS):
        segment[HISTORY + n] = host[n]
    inverse = np.empty(ORDER + 1)
    predict(segment[ORDER:], _WINDOW, _LAG_WINDOW, 4.0 * (BACK + FRAME_CHIPS), inverse)
    residual = state[RESIDUAL : RESIDUAL + RESIDUAL_HISTORY + FRAME_CHIPS]
    whitened = residual[RESIDUAL_HISTORY:]
    for n in range(FRAME_CHIPS):
        total = 0.0
        for k in range(ORDER + 1):
            total += inverse[k] * segment[HISTORY + n - k]
        whitened[n] = total
    energy, power = 0.0, 0.0
    for n in range(FRAME_CHIPS):
        energy += whitened[n] * whitened[n]
        power += host[n] * host[n]
    power /= FRAME_CHIPS
    scale = state[STRENGTH_OF] * (1.5 - _voicing(residual, energy))
    level = math.sqrt(power)
    if level > QUIET_LSB:
        usual = state[LEVEL] + 0.02 * (power - state[LEVEL]) if state[LEVEL] > 0.0 else power
        state[LEVEL] = usual
        scale *= max(0.5, min(2.0, (level / math.sqrt(usual)) ** -0.5))
    rms = math.sqrt(energy / FRAME_CHIPS)
    previous = state[GAIN]
    for j in range(SUBFRAMES):
        total = 0.0
        for i in range(SUBFRAME):
            total += whitened[j * SUBFRAME + i] ** 2
        gain = max(COMFORT_LSB, scale * min(rms, ENVELOPE_CAP * math.sqrt(total / SUBFRAME)))
        for i in range(SUBFRAME):
            part = (i + 0.5) / SUBFRAME
            mark[j * SUBFRAME + i] *= previous * (1.0 - part) + gain * part
        previous = gain
    state[GAIN] = previous
    factor = 1.0
    for k in range(1, ORDER + 1):
        factor *= BANDWIDTH
        inverse[k] *= factor
    ringing = np.empty(ORDER + FRAME_CHIPS)
    for k in range(ORDER):
        ringing[k] = state[RINGING + k]
    for n in range(FRAME_CHIPS):
        total = mark[n]
        # The newest sample last: the others' sums need not wait for it.
        for k in range(ORDER, 0, -1):
            total -= inverse[k] * ringing[ORDER + n - k]
        ringing[ORDER + n] = mark[n] = total
    for k in range(ORDER):
        state[RINGING + k] = ringing[FRAME_CHIPS + k]
    for n in range(HISTORY):
        state[HOST + n] = segment[FRAME_CHIPS + n]
    for n in range(RESIDUAL_HISTORY):
        residual[n] = residual[n + FRAME_CHIPS]


@compiled
def _add(pcm: Pcm, mark: RealArray) -> None:
    """Host and mark in the host's place, kept within 16 bits."""
    for n in range(pcm.shape[0]):
        total = np.rint(pcm[n] + mark[n])
        pcm[n] = np.int16(max(-32768.0, min(32767.0, total)))


@brief
def mark_frame(pcm: Pcm, signs: Signs, frame: int, state: RealArray) -> None:
    """One frame of a leg, in place; its ``state`` moves on."""
    mark = np.empty(FRAME_CHIPS)
    _chips(signs, state, frame, mark)
    narrow = np.empty(FRAME_CHIPS)
    if pcm.shape[0] == FRAME_CHIPS:
        for n in range(FRAME_CHIPS):
            narrow[n] = pcm[n]
        _shape(narrow, state, mark)
        _add(pcm, mark)
    else:
        _halve(pcm, state[WIDE_HOST : WIDE_HOST + HALF_BAND_TAPS - 1], _TAPS, narrow)
        _shape(narrow, state, mark)
        wide = np.empty(pcm.shape[0])
        _double(mark, state[WIDE_MARK : WIDE_MARK + (HALF_BAND_TAPS + 1) // 2], _TAPS, wide)
        _add(pcm, wide)


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
