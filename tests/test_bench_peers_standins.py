"""The tones by which callers of the peers' comparison know what they hear."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop


@pytest.fixture(scope="module")
def standins() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts/peers/standins.py"
    spec = importlib.util.spec_from_file_location("standins", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_utterance_is_known_by_its_tone_after_mu_law(standins: ModuleType, rate: int) -> None:
    for number in range(standins.TONES):
        pcm = standins.tone(number, 0, rate * 2 // 5, rate)
        sent = audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2)
        assert standins.number_of(np.frombuffer(sent, np.int16), rate) == number


def test_chunks_join_without_a_step(standins: ModuleType) -> None:
    whole = standins.tone(7, 0, 1600, 8000)
    chunks = [standins.tone(7, start, 800, 8000) for start in (0, 800)]
    assert np.array_equal(np.concatenate(chunks), whole)


def test_what_is_no_tone_of_theirs_has_no_number(standins: ModuleType) -> None:
    assert standins.number_of(np.zeros(10, np.int16), 8000) is None
    high = (6000 * np.sin(2 * np.pi * 3000 / 8000 * np.arange(3200))).astype(np.int16)
    assert standins.number_of(high, 8000) is None


def test_an_utterance_is_noted_with_its_time(
    standins: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("STANDIN_LOG", str(log))
    number, samples = standins.begin_utterance("Twenty characters ..")
    again, _ = standins.begin_utterance("Hi.")
    assert samples == 7200
    assert again == (number + 1) % standins.TONES
    noted = [line.split() for line in log.read_text().splitlines()]
    assert [int(line[0]) for line in noted] == [number, again]
    assert float(noted[0][1]) <= float(noted[1][1])
