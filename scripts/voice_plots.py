"""Pictures of what the quality bench of cloned voices found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 16000
Recording = npt.NDArray[np.float32]


def spectrograms(path: Path, speaker: str, recordings: Mapping[str, Recording]) -> None:
    """One above the other, 4 s of each, 0 to 8 kHz, over the same 70 dB."""
    figure, axes = plt.subplots(len(recordings), 1, figsize=(9, 2.2 * len(recordings)), sharex=True)
    for axis, (title, samples) in zip(axes, recordings.items(), strict=True):
        loud = np.flatnonzero(np.abs(samples) > 0.02)
        part = samples[loud[0] : loud[0] + 4 * RATE]
        part = part / np.abs(part).max()
        axis.specgram(part, NFFT=400, Fs=RATE, noverlap=320, vmin=-110, vmax=-40, cmap="magma")
        axis.set_ylabel("Hz")
        axis.set_title(f"{speaker}: {title}", fontsize=9)
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def similarity_matrix(
    path: Path, rows: Sequence[str], columns: Sequence[str], cosines: npt.NDArray[np.floating]
) -> None:
    """Mean GE2E cosine of each voice (row) to each candidate (column), written into the cells."""
    figure, axis = plt.subplots(figsize=(1.5 + 0.55 * len(columns), 1.5 + 0.36 * len(rows)))
    image = axis.imshow(cosines, vmin=0.4, vmax=1.0, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    for i, row in enumerate(cosines):
        for j, value in enumerate(row):
            colour = "black" if value > 0.75 else "white"
            axis.text(j, i, f"{value:.2f}"[1:], ha="center", va="center", size=7, color=colour)
    figure.colorbar(image, ax=axis, label="mean cosine")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def frontier(path: Path, lines: Mapping[str, Sequence[tuple[float, float, float]]]) -> None:
    """Cosine against word error rate: for each speaker (share of the way, cosine, WER)."""
    figure, axis = plt.subplots(figsize=(7, 5))
    for speaker, points in lines.items():
        errors = [100 * wer for _, _, wer in points]
        axis.plot(errors, [cosine for _, cosine, _ in points], marker="o", label=speaker)
        for share, cosine, wer in points:
            axis.annotate(
                f"{share:g}", (100 * wer, cosine), textcoords="offset points", xytext=(4, 4), size=7
            )
    axis.set_xlabel("word error rate, % (general language model)")
    axis.set_ylabel("mean cosine to the held-out speaker")
    axis.set_title("How far from the stock voice (0) to the clone (1) and beyond", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
