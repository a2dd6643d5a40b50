"""What figures say of how the media was built."""

from __future__ import annotations

import pytest

from ringtrue.streaming import session
from ringtrue.streaming.built import media_built


@pytest.mark.parametrize(
    ("file", "told"), [("session.py", "media not compiled"), ("session.so", "media compiled")]
)
def test_it_says_what_is_imported(monkeypatch: pytest.MonkeyPatch, file: str, told: str) -> None:
    monkeypatch.setattr(session, "__file__", f"/somewhere/{file}")
    assert media_built() == told
