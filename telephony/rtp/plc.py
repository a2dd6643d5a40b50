"""Packet loss concealment by waveform repetition, after ITU-T G.711 Appendix I.

The last pitch period heard goes on, over one, two, then three periods so that it doesn't buzz,
fades from 10 ms on and is silent at 60 ms. Unlike the appendix it adds no delay: instead of
holding output back for the first overlap, the repeated segment's own ends are made to meet.
When audio returns, the repetition runs on under it and is faded out.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.telephony.rtp.pitch import Samples, best_lag

HISTORY: Final = 0.0625
"""Seconds of past audio kept: three periods of the longest pitch, a quarter more, and a window."""

SHORTEST, LONGEST = 0.0025, 0.015
"""Pitch periods searched, in seconds: 400 to 67 Hz."""

WINDOW: Final = 0.010
"""Seconds compared in the search."""

HOLD, FADED = 0.010, 0.060
"""Seconds into a loss at which the fade begins and ends."""

MERGE, MERGE_STEP, MERGE_MAX = 0.004, 0.004, 0.010
"""Overlap on recovery: 4 ms, and 4 ms more for each 10 ms lost, up to 10 ms (App. I.2.7)."""


class Concealer:
    """One stream's concealment. PCM is signed 16-bit little-endian mono."""

    __slots__ = (
        "_cycle",
        "_held",
        "_history",
        "_keep",
        "_lag",
        "_lost",
        "_periods",
        "_phase",
        "_rate",
        "_source",
    )

    def __init__(self, rate: int) -> None:
        """``rate`` is the PCM rate in Hz."""
        self._rate = rate
        self._keep = 2 * int(HISTORY * rate)
        self._history = [bytes(self._keep)]
        """What was heard, in pieces: at least the last ``_keep`` bytes."""

        self._held = self._keep
        self._lost = 0
        self._cycle: Samples = np.zeros(1, np.float32)
        self._phase = 0
        self._periods = 0
        self._lag = 1

    @property
    def lost(self) -> int:
        """Samples concealed in a row so far."""
        return self._lost

    def good(self, pcm: bytes) -> bytes:
        """Audio that arrived: ``pcm`` itself, joined smoothly to a concealment before it."""
        if self._lost:
            pcm = self._merge(pcm)
        self._remember(pcm)
        return pcm

    def _remember(self, pcm: bytes) -> None:
        """Audio that was heard. What is too old goes now and then, not a little each time."""
        self._history.append(pcm)
        self._held += len(pcm)
        if self._held > 4 * self._keep:
            self._history = [b"".join(self._history)[-self._keep :]]
            self._held = self._keep

    def conceal(self, samples: int) -> bytes:
        """``samples`` of what might have been said."""
        rate = self._rate
        if self._lost >= FADED * rate:
            self._lost += samples
            silence = bytes(2 * samples)
            self._remember(silence)
            return silence
        if not self._lost:
            self._analyse()
        made = self._continue(samples)
        self._lost += samples
        pcm = made.astype("<i2").tobytes()
        self._remember(pcm)
        return pcm

    def _analyse(self) -> None:
        rate = self._rate
        heard = b"".join(self._history)[-self._keep :]
        self._source = np.frombuffer(heard, "<i2").astype(np.float32)
        width = int(WINDOW * rate)
        lags = range(int(SHORTEST * rate), int(LONGEST * rate) + 1)
        searched = self._source[len(self._source) - width - lags[-1] : -lags[0]]
        self._lag, _ = best_lag(self._source[-width:], searched, lags, backwards=True)
        self._periods, self._phase = 0, 0
        self._lengthen()

    def _lengthen(self) -> None:
        """Repeat over one more period, the segment's end bent to lead into its beginning."""
        self._periods += 1
        length = self._periods * self._lag
        cycle = self._source[-length:].copy()
        overlap = max(1, self._lag // 4)
        before = self._source[-length - overlap : -length]
        ramp = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
        cycle[-overlap:] = cycle[-overlap:] * (1 - ramp) + before * ramp
        self._cycle = cycle

    def _continue(self, samples: int) -> Samples:
        """The next samples of the repetition, faded as the loss grows."""
        rate = self._rate
        periods = min(3, 1 + int(self._lost / (HOLD * rate)))
        while self._periods < periods:
            self._lengthen()
            self._phase %= self._lag
        index = (self._phase + np.arange(samples)) % len(self._cycle)
        self._phase = (self._phase + samples) % len(self._cycle)
        time = np.arange(self._lost, self._lost + samples, dtype=np.float32) / rate
        gain = np.clip((FADED - time) / (FADED - HOLD), 0, 1)
        faded: Samples = (self._cycle[index] * gain).astype(np.float32)
        return faded

    def _merge(self, pcm: bytes) -> bytes:
        rate, lost = self._rate, self._lost
        fresh = np.frombuffer(pcm, "<i2").astype(np.float32)
        seconds = min(MERGE_MAX, MERGE + MERGE_STEP * int(lost / (0.010 * rate)))
        overlap = min(len(fresh), int(seconds * rate))
        if overlap:
            faded = lost >= FADED * rate
            tail = np.zeros(overlap, np.float32) if faded else self._continue(overlap)
            ramp = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
            fresh[:overlap] = fresh[:overlap] * ramp + tail * (1 - ramp)
            pcm = np.clip(np.rint(fresh), -32768, 32767).astype("<i2").tobytes()
            self._lost = 0
        return pcm
