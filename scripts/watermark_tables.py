"""Figures of the watermark's benches as text, and where it goes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

MARKS: Final = "<!-- measured: {} -->", "<!-- end of measured: {} -->"

MANY: Final = 200
"""Crops from which on tenths of a percent are shown."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.96
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def shown(hits: int, count: int) -> str:
    """A share in % with its interval."""
    low, high = (100 * each for each in wilson(hits, count))
    digits = 1 if count >= MANY else 0
    return f"{100 * hits / count:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def write_between(path: Path, section: str, text: str) -> None:
    """Put ``text`` between a file's markers of ``section``."""
    begin, end = (mark.format(section) for mark in MARKS)
    document = path.read_text("utf-8")
    if begin not in document or end not in document:
        raise SystemExit(f"{path}: no markers {begin} … {end}")
    head, _, rest = document.partition(begin)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", "utf-8")
