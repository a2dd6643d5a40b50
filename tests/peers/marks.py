"""Which sessions a recording names, to who holds the server's watermark keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringtrue.config.settings import load_settings
from ringtrue.voices.library_config import mark_key_file
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.examination import examine
from ringtrue.voices.watermark.keyring import load_mark_keys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.report import Report


def server_keys(path: Path | None = None) -> list[MarkKey]:
    """What a test's server marks with: the keys at ``path``, or where it keeps them unless told."""
    return list(load_mark_keys(path or mark_key_file(load_settings().voices)).keys.values())


def sessions(samples: npt.NDArray[np.float64], rate: int, keys: list[MarkKey]) -> list[str]:
    """The marks that are read from mono ``samples`` in −1…1, as call records name them."""
    found = detect(samples.astype(np.float32), rate, keys)
    return _named(Report.of([found], thorough=False, rate=rate, codec="none"))


def sessions_in(path: Path, keys: list[MarkKey]) -> list[str]:
    """The same of an audio file of any kind."""
    return _named(examine(path, keys))


def _named(report: Report) -> list[str]:
    assert report.found is any(channel.stretches for channel in report.channels)
    return [token.id for token in report.tokens]
