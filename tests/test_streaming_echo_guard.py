"""An agent that hears itself: found, cancelled, and a caller left alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from lines import echoed, spoken

from ringtrue.streaming.echo.finder import EchoFinder, Found
from ringtrue.streaming.echo.guard import EchoGuard

Pcm = npt.NDArray[np.int16]


def through(guard: EchoGuard, sent: Pcm, heard: Pcm, rate: int = 8000) -> tuple[Pcm, float | None]:
    """What is left, and the second in which the echo was found."""
    frame, out, found = rate // 50, [], None
    for start in range(0, len(heard) - frame + 1, frame):
        part = slice(start, start + frame)
        out.append(np.frombuffer(guard.heard(heard[part].tobytes()), np.int16))
        guard.sent(sent[part].tobytes())
        if found is None and guard.stats.delay_ms is not None:
            found = start / rate
    return np.concatenate(out), found


def rms(pcm: npt.NDArray[np.floating] | Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(float) ** 2)))


@pytest.mark.parametrize(
    ("delay_ms", "gain_db", "erle_db"),
    [(40, -10, 25), (180, -12, 25), (60, -25, 16), (400, -6, 22), (700, -18, 20), (180, -35, 10)],
)
def test_an_echo_is_found_and_taken_away(delay_ms: int, gain_db: float, erle_db: float) -> None:
    guard, sent = EchoGuard(8000), spoken("rms")
    heard = echoed(sent, delay_ms, gain_db)
    left, found = through(guard, sent, heard)
    assert found is not None
    assert found < 3
    assert guard.stats.erle_db is not None
    assert guard.stats.erle_db > erle_db
    late = slice(8 * 8000, None)
    assert rms(left[late]) < 12  # next to the line's own noise of 5
    assert set(guard.stats.as_dict()) == {"echo_delay_ms", "echo_erle_db", "echo_losses"}


def test_wideband_calls_have_it_too() -> None:
    guard, sent = EchoGuard(16000), spoken("rms", 16000)[: 16 * 16000]
    left, found = through(guard, sent, echoed(sent, 150, -12, 16000), 16000)
    assert found is not None
    assert rms(left[8 * 16000 :]) < 20


def test_without_an_echo_nothing_is_touched() -> None:
    sent, heard = spoken("rms"), spoken("awb")
    length = min(len(sent), len(heard)) // 160 * 160
    left, found = through(EchoGuard(8000), sent[:length], heard[:length])
    assert found is None
    assert np.array_equal(left, heard[:length])


def band(pcm: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Its telephone band, 300 to 3400 Hz; what is below is not carried for sure."""
    spectrum = np.fft.rfft(pcm)
    frequency = np.fft.rfftfreq(len(pcm), 1 / 8000)
    spectrum[(frequency < 300) | (frequency > 3400)] = 0
    return np.fft.irfft(spectrum, len(pcm))


@pytest.mark.parametrize(
    ("gain_db", "loudness", "likeness"), [(-12, 1.0, 0.95), (-25, 1.0, 0.99), (-6, 0.3, 0.8)]
)
def test_a_caller_who_talks_over_the_agent_is_heard(
    gain_db: float, loudness: float, likeness: float
) -> None:
    sent = spoken("rms")
    near = np.zeros(len(sent))
    said = loudness * spoken("awb")[: len(sent) - 5 * 8000]
    near[5 * 8000 : 5 * 8000 + len(said)] = said
    heard = echoed(sent, 180, gain_db, near=near)
    left, _ = through(EchoGuard(8000), sent, heard)
    late = slice(8 * 8000, len(left))
    wanted, got, before = (band(each[late].astype(float)) for each in (near, left, heard))

    def alike(pcm: npt.NDArray[np.float64]) -> float:
        return float(wanted @ pcm) / float(np.linalg.norm(wanted) * np.linalg.norm(pcm))

    assert alike(got) > likeness
    assert alike(got) > alike(before) - 0.005


def test_while_the_agent_is_silent_the_line_is_as_it_was() -> None:
    guard, sent = EchoGuard(8000), spoken("rms")[: 6 * 8000]
    through(guard, sent, echoed(sent, 100, -12))
    assert guard.stats.delay_ms is not None
    silence, heard = np.zeros(3 * 8000, np.int16), spoken("awb")[: 3 * 8000]
    left, _ = through(guard, silence, heard)
    assert np.array_equal(left[2 * 8000 :], heard[2 * 8000 :])


def test_an_echo_that_moves_is_found_again() -> None:
    guard, sent = EchoGuard(8000), np.concatenate([spoken("rms"), spoken("rms")])
    half = len(sent) // 2 // 160 * 160
    through(guard, sent[:half], echoed(sent[:half], 80, -8))
    assert guard.stats.delay_ms is not None
    left, _ = through(guard, sent[half:], echoed(sent[half:], 400, -8))
    assert guard.stats.losses == 1
    assert guard.stats.delay_ms == pytest.approx(380, abs=3)
    assert rms(left[-4 * 8000 :]) < 40


@pytest.mark.parametrize(("quiet", "late"), [(0.5, True), (4.0, False)])
def test_on_a_line_that_has_sent_nothing_back_no_caller_is_held_back(
    quiet: float, late: bool
) -> None:
    guard, sent = EchoGuard(8000), spoken("rms")[: 8 * 8000]
    near = spoken("awb")[: 2 * 8000]
    heard = np.zeros(len(sent), np.int16)
    start = int(quiet * 8000)
    heard[start : start + len(near)] = near
    held = 0
    for n in range(0, len(sent), 160):
        held += not guard.heard(heard[n : n + 160].tobytes())
        guard.sent(sent[n : n + 160].tobytes())
    assert bool(held) is late


@pytest.mark.parametrize(("comes_back", "most"), [(False, 6), (True, 12)])
def test_what_is_held_back_is_looked_at_closely_only_where_it_may_be_an_echo(
    comes_back: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Found | None] = []
    look = EchoFinder.look

    def counted(finder: EchoFinder, agree: int = 2) -> Found | None:
        looks.append(look(finder, agree))
        return looks[-1]

    monkeypatch.setattr(EchoFinder, "look", counted)
    guard, sent = EchoGuard(8000), spoken("rms")[: 2 * 8000]
    heard = echoed(sent, 180, -12) if comes_back else spoken("awb")[: 2 * 8000]
    held = 0
    for n in range(0, len(heard) - 159, 160):
        held += not guard.heard(heard[n : n + 160].tobytes())
        guard.sent(sent[n : n + 160].tobytes())
        if held and guard.stats.delay_ms is None and not guard._held:
            break
    assert 0 < len(looks) <= most
    assert any(looks) is comes_back


def test_only_the_rates_of_calls_are_taken() -> None:
    with pytest.raises(ValueError, match="rate is 48000; allowed: 8000, 16000"):
        EchoGuard(48000)
