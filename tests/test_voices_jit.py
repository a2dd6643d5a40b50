"""Kernels compile whether or not their machine code can be kept."""

from __future__ import annotations

import pytest
from numba.core import caching

from ringtrue.voices.jit import brief, compiled


def double(x: float) -> float:
    return 2 * x


def test_without_a_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        caching.FunctionCache(double)
    assert compiled(double)(21.0) == 42.0


def test_with_one() -> None:
    assert compiled(double)(4.0) == 8.0


def test_a_brief_kernel_keeps_the_interpreter_to_itself() -> None:
    assert brief(double)(4.0) == 8.0
    assert not brief(double).targetoptions["nogil"]  # type: ignore[attr-defined]
    assert compiled(double).targetoptions["nogil"]  # type: ignore[attr-defined]
