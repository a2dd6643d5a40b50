"""Speex's canceller through its binding."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from lines import echoed, spoken

from ringtrue.streaming.echo import canceller
from ringtrue.streaming.echo.canceller import (
    EchoCanceller,
    EchoLibraryError,
    echo_library_available,
)


def rms(pcm: np.ndarray) -> float:
    return float(np.sqrt(np.mean(pcm.astype(float) ** 2)))


def test_an_echo_within_its_tail_is_taken_away() -> None:
    sent = spoken("rms")[: 8 * 8000]
    heard = echoed(sent, 20, -12)
    echo = EchoCanceller(8000, 160, 512)
    left = np.concatenate(
        [
            echo.process(heard[n : n + 160].tobytes(), sent[n : n + 160].tobytes())
            for n in range(0, len(sent), 160)
        ]
    )
    late = slice(3 * 8000, None)
    assert rms(left[late]) < rms(heard[late]) / 10


@pytest.mark.parametrize("length", [0, 318, 322])
def test_frames_of_another_length_are_refused(length: int) -> None:
    echo = EchoCanceller(8000, 160, 512)
    with pytest.raises(ValueError, match=rf"frames of {length} and 320 bytes; both must have 320"):
        echo.process(bytes(length), bytes(320))


def test_without_the_library_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.PyDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(canceller.ctypes, "PyDLL", missing)
    canceller._library.cache_clear()
    try:
        assert not echo_library_available()
        with pytest.raises(EchoLibraryError, match="libspeexdsp1"):
            EchoCanceller(8000, 160, 512)
    finally:
        canceller._library.cache_clear()
