"""``resemble-perth``, the neural watermark that runs offline, on the watermark bench's clips."""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from watermark_attacks import RATE, Audio, Case, resampled
from watermark_corpus import say
from watermark_hosts import crops
from watermark_tables import shown

SECONDS: Final = 3
FALSE_ALARMS: Final = 0.01
"""The share of unmarked crops that may score higher than what counts as found; measured, since
the network has no bound."""

WIDE: Final = 16000


def perth(
    chosen: Sequence[Case], sources: dict[str, Audio], count: int, path: Path, until: float
) -> str:
    """What it finds after each attack, in Markdown; rows kept at ``path`` are not taken again."""
    marker = _loaded()
    rows: dict[str, list[int]] = json.loads(path.read_text()) if path.exists() else {}
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
        rows[case.name] = [hits, len(with_mark)]
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
        say(f"{case.name}: {shown(*rows[case.name])}")
    lines = ["| after | found 3 s, at a measured 1 % of false alarms |", "|---|---|"]
    lines += [
        f"| {case.name} | {shown(*rows[case.name])} |" for case in chosen if case.name in rows
    ]
    return "\n".join(lines)


def _loaded() -> Any:
    shim = types.ModuleType("pkg_resources")  # which newer setuptools don't have
    shim.resource_filename = lambda package, name: str(files(package) / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", shim)
    import torch
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
