"""How a recording differs from what was sent: lag, level, noise, lost 20 ms blocks."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]


def read_wav(path: Path) -> tuple[Samples, int]:
    """Mono samples in −1…1 and their rate."""
    with wave.open(str(path)) as wav:
        rate, channels = wav.getframerate(), wav.getnchannels()
        raw = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(float) / 32768
    return raw.reshape(-1, channels).mean(axis=1), rate


def write_wav(path: Path, samples: npt.NDArray[np.int16], rate: int) -> None:
    """Mono 16-bit."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples.astype("<i2").tobytes())


@dataclass(frozen=True)
class Difference:
    """Of a recording against its reference."""

    lag_seconds: float
    correlation: float
    snr_db: float
    lost_blocks: int
    """20 ms in which the reference speaks and the recording is silent."""


def compare(reference: Samples, recording: Samples, rate: int) -> Difference:
    """Align by cross-correlation over the whole, fit the gain, and measure the rest."""
    size = 1 << (len(reference) + len(recording)).bit_length()
    spectrum = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(reference, size))
    lag = int(np.argmax(np.abs(np.fft.irfft(spectrum, size))))
    if lag > size // 2:
        lag -= size
    heard = recording[max(0, lag) : max(0, lag) + len(reference)]
    said = reference[max(0, -lag) : max(0, -lag) + len(heard)]
    heard = heard[: len(said)]
    gain = float(said @ heard / (said @ said))
    error = heard - gain * said
    frame = rate // 50
    blocks = len(said) // frame
    energy_said = (said[: blocks * frame].reshape(blocks, frame) ** 2).mean(axis=1)
    energy_heard = (heard[: blocks * frame].reshape(blocks, frame) ** 2).mean(axis=1)
    lost = (energy_said > 1e-4) & (energy_heard < 1e-2 * energy_said)
    with np.errstate(divide="ignore"):  # bit for bit the same: no noise at all
        snr_db = 10 * np.log10(gain**2 * (said @ said) / (error @ error))
    return Difference(
        lag_seconds=lag / rate,
        correlation=float(said @ heard / np.sqrt((said @ said) * (heard @ heard))),
        snr_db=float(snr_db),
        lost_blocks=int(lost.sum()),
    )
