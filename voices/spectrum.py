"""A 512-point real FFT for vocoder kernels, compiled and without allocation.

Spectra are ``BINS`` complex values (bins 0..256). The transform packs the real signal into 256
complex points (Numerical Recipes §12.3) and runs an iterative radix-2 FFT on them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled

SIZE: Final = 512
HALF: Final = SIZE // 2
BINS: Final = HALF + 1

RealArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
IndexArray = npt.NDArray[np.int64]

REVERSED: Final[IndexArray] = np.array([int(f"{i:08b}"[::-1], 2) for i in range(HALF)], np.int64)
"""Bit-reversed order of the 256 packed points."""

TWIDDLES: Final[ComplexArray] = np.exp(-2j * np.pi * np.arange(HALF) / SIZE)
"""``exp(-2πik/512)`` for k in 0..255; every second one serves the packed transform."""


@compiled
def _butterflies(points: ComplexArray, reverse: IndexArray, twiddles: ComplexArray) -> None:
    for i in range(HALF):
        j = reverse[i]
        if j > i:
            held = points[i]
            points[i] = points[j]
            points[j] = held
    width = 1
    while width < HALF:
        stride = HALF // width
        for start in range(0, HALF, 2 * width):
            for j in range(width):
                low = points[start + j]
                high = points[start + j + width] * twiddles[j * stride]
                points[start + j] = low + high
                points[start + j + width] = low - high
        width *= 2


@compiled
def forward(
    signal: RealArray,
    spectrum: ComplexArray,
    work: ComplexArray,
    reverse: IndexArray,
    twiddles: ComplexArray,
) -> None:
    """``spectrum`` (257) := DFT of ``signal`` (512); ``work`` is 256 scratch points."""
    for i in range(HALF):
        work[i] = complex(signal[2 * i], signal[2 * i + 1])
    _butterflies(work, reverse, twiddles)
    spectrum[0] = complex(work[0].real + work[0].imag, 0.0)
    spectrum[HALF] = complex(work[0].real - work[0].imag, 0.0)
    for k in range(1, HALF):
        a = work[k]
        b = work[HALF - k].conjugate()
        even = 0.5 * (a + b)
        odd = -0.5j * (a - b)
        spectrum[k] = even + twiddles[k] * odd


@compiled
def inverse(
    spectrum: ComplexArray,
    signal: RealArray,
    work: ComplexArray,
    reverse: IndexArray,
    twiddles: ComplexArray,
) -> None:
    """``signal`` (512) := inverse DFT of ``spectrum`` (257); ``work`` is 256 scratch points.

    The imaginary parts of bins 0 and 256 are taken as zero.
    """
    first = spectrum[0].real
    last = spectrum[HALF].real
    work[0] = complex(0.5 * (first + last), -0.5 * (first - last))
    for k in range(1, HALF):
        a = spectrum[k]
        b = spectrum[HALF - k].conjugate()
        even = 0.5 * (a + b)
        odd = 0.5 * (a - b) * twiddles[k].conjugate()
        packed = even + 1j * odd
        work[k] = packed.conjugate()
    _butterflies(work, reverse, twiddles)
    scale = 1.0 / HALF
    for i in range(HALF):
        signal[2 * i] = work[i].real * scale
        signal[2 * i + 1] = -work[i].imag * scale
