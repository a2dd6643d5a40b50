from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watermarking import KEY, TOKEN

from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.token import Token, read, symbols


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**28 - 1))
def test_what_was_written_is_read(session: int, minutes: int):
    token = Token(session, datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))
    assert read(KEY, 0.1 * symbols(KEY, token)) == token


def test_another_key_reads_nothing():
    assert read(MarkKey(b"x" * 32), symbols(KEY, TOKEN)) is None


def test_noise_is_no_token():
    rng = np.random.default_rng(3)
    assert all(read(KEY, rng.normal(0, 1, 512)) is None for _ in range(30))
    assert read(KEY, np.zeros(512)) is None
    assert read(KEY, np.full(512, np.nan)) is None


def test_time_is_kept_to_the_minute_in_any_zone():
    exact = datetime(2026, 7, 1, 12, 34, 56, tzinfo=UTC)
    found = read(KEY, symbols(KEY, Token(1, exact)))
    assert found is not None
    assert found.time == exact.replace(second=0)


def test_a_time_after_what_is_expected_is_read_as_well():
    late = Token(9, datetime(2040, 2, 3, 4, 5, tzinfo=UTC))
    assert read(KEY, symbols(KEY, late)) == late


@pytest.mark.parametrize(
    ("session", "time", "said"),
    [
        (2**32, datetime(2026, 1, 1, tzinfo=UTC), "session must be 0 to"),
        (-1, datetime(2026, 1, 1, tzinfo=UTC), "session must be 0 to"),
        (1, datetime(2023, 1, 1, tzinfo=UTC), "outside what a token can say"),
        (1, datetime(2026, 1, 1), "no time zone"),
    ],
)
def test_what_a_token_cannot_say_is_refused(session: int, time: datetime, said: str):
    with pytest.raises(WatermarkError, match=said):
        Token(session, time)
