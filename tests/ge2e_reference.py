"""What the speaker encoder is measured against: resemblyzer itself, and its recorded answers.

``python tests/ge2e_reference.py`` records anew what resemblyzer 0.1.4 says of the recordings
named here, for machines where it is not installed.
"""

from __future__ import annotations

import functools
import json
import warnings
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

RECORDED = Path(__file__).with_suffix(".json")
SOUNDS = Path("/usr/share/asterisk/sounds")
SPEAKERS = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
PROMPTS = ("conf-adminmenu", "conf-usermenu", "demo-congrats", "agent-alreadyon")
"""None of them is among the voicemail prompts that the network's rounding was fitted on."""

Samples = npt.NDArray[np.float32]


def read(path: Path) -> tuple[Samples, int]:
    """A 16-bit mono WAV file within -1 to 1, and its rate."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.astype(np.float32) / 32768, file.getframerate()


def prompt(speaker: str, name: str) -> tuple[Samples, int]:
    """One of Asterisk's prompts; skips the test where the speaker isn't installed."""
    path = SOUNDS / speaker / f"{name}.wav"
    if not path.exists():
        pytest.skip(f"needs {path} (Debian's asterisk-core-sounds-{speaker[:2]}-wav)")
    return read(path)


def at_level(samples: Samples, dbfs: float = -24.0) -> Samples:
    """``samples`` at an RMS level."""
    rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return (samples * (10 ** (dbfs / 20) / rms)).astype(np.float32)


@functools.cache
def _resemblyzer() -> tuple[Any, Any]:
    pytest.importorskip("torch", reason="resemblyzer needs torch (extra: models)")
    pytest.importorskip("librosa", reason="resemblyzer needs librosa (extra: models)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "resemblyzer", reason="scripts/setup.sh test installs resemblyzer where torch is"
        )
        return module.VoiceEncoder("cpu", verbose=False), module.preprocess_wav


def resemblyzer_embedding(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """resemblyzer's own answer for ``samples`` at -24 dBFS; skips where it isn't installed."""
    encoder, preprocess = _resemblyzer()
    return np.asarray(encoder.embed_utterance(preprocess(at_level(samples), rate)), np.float32)


def recorded() -> dict[str, npt.NDArray[np.float32]]:
    """resemblyzer's answers by ``speaker/prompt``."""
    answers = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {key: np.asarray(values, np.float32) / 1e4 for key, values in answers.items()}


if __name__ == "__main__":
    lines = []
    for speaker in SPEAKERS:
        for name in PROMPTS:
            values = np.rint(resemblyzer_embedding(*prompt(speaker, name)) * 1e4).astype(int)
            lines.append(f' "{speaker}/{name}": {json.dumps(values.tolist())}')
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
