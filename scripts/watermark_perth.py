"""``resemble-perth``, the neural watermark that runs offline, on the watermark bench's clips."""

from __future__ import annotations

import importlib.util
import sys
import time
import types
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import numpy as np
from watermark_attacks import RATE, Audio, Case, resampled
from watermark_corpus import say
from watermark_hosts import crops
from watermark_kept import Kept
from watermark_tables import shown

SECONDS: Final = 3
FALSE_ALARMS: Final = 0.01
"""The share of unmarked crops that may score higher than what counts as found; measured, since
the network has no bound."""

WIDE: Final = 16000


def perth(
    chosen: Sequence[Case], sources: dict[str, Audio], count: int, kept: Kept, until: float
) -> str:
    """What it finds after each attack, in Markdown; rows that are ``kept`` are not taken again."""
    marker = _loaded()
    rows = {row["name"]: row for row in kept.rows if row["crops"] == count * len(sources)}
    sent = {name: _marked(marker, host) for name, host in sources.items()}
    for case in chosen:
        if case.name in rows or time.monotonic() > until:
            continue
        try:
            clear = _scores(marker, case, sources, sources, count)
            with_mark = _scores(marker, case, sent, sources, count)
        except FileNotFoundError as error:
            say(f"{case.name}: left out, {error}")
            continue
        hits = int((with_mark > np.quantile(clear, 1 - FALSE_ALARMS)).sum())
        rows[case.name] = {"name": case.name, "found": hits, "crops": len(with_mark)}
        kept.keep(list(rows.values()))
        say(f"{case.name}: {shown(hits, len(with_mark))}")
    lines = ["| after | found 3 s, at a measured 1 % of false alarms |", "|---|---|"]
    for row in (rows[case.name] for case in chosen if case.name in rows):
        lines.append(f"| {row['name']} | {shown(row['found'], row['crops'])} |")
    return "\n".join(lines)


def _loaded() -> Any:
    """The network, with stand-ins for what it imports and this project doesn't install."""
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: str(files(package) / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", resources)
    import torch

    class Spectrogram(torch.nn.Module):
        """As torchaudio's, of power None, and its inverse."""

        def __init__(self, n_fft: int, win_length: int, hop_length: int, **how: Any) -> None:
            super().__init__()
            self.size, self.hop, self.width = n_fft, hop_length, win_length
            self.register_buffer("window", how["window_fn"](win_length))

        def forward(self, signal: torch.Tensor) -> torch.Tensor:
            return torch.stft(
                signal, self.size, self.hop, self.width, self.window, return_complex=True
            )

    class InverseSpectrogram(Spectrogram):
        def forward(self, signal: torch.Tensor) -> torch.Tensor:
            return torch.istft(signal, self.size, self.hop, self.width, self.window)

    class TimeStretch(torch.nn.Module):
        """Never used by the network, but kept in its file."""

        def __init__(self, n_freq: int, **_: Any) -> None:
            super().__init__()
            self.register_buffer("phase_advance", torch.zeros(n_freq, 1))

    transforms = types.ModuleType("torchaudio.transforms")
    transforms.Spectrogram = Spectrogram  # type: ignore[attr-defined]
    transforms.InverseSpectrogram = InverseSpectrogram  # type: ignore[attr-defined]
    transforms.TimeStretch = TimeStretch  # type: ignore[attr-defined]
    if importlib.util.find_spec("torchaudio") is None:
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        sys.modules["torchaudio.transforms"] = transforms
    from perth import PerthImplicitWatermarker  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    return PerthImplicitWatermarker()


def _marked(marker: Any, host: Audio) -> Audio:
    wide = resampled(host / 32768, RATE, WIDE).astype(np.float32)
    back = np.asarray(marker.apply_watermark(wide, sample_rate=WIDE), np.float64)
    return resampled(back, WIDE, RATE)[: len(host)] * 32768


def _scores(
    marker: Any, case: Case, spoken: dict[str, Audio], hosts: dict[str, Audio], count: int
) -> Audio:
    """The network's mean output for every crop."""
    found = []
    for number, (name, samples) in enumerate(spoken.items()):
        heard = case.attack(samples)
        for crop in crops(hosts[name], heard, SECONDS, count, seed=1000 * number + SECONDS):
            wide = resampled(crop / 32768, RATE, WIDE).astype(np.float32)
            found.append(float(np.mean(marker.get_watermark(wide, WIDE, round=False))))
    return np.array(found)
