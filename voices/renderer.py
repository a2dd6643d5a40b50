"""One utterance, from phrases of text to PCM, in slices small enough to share a processor.

Synchronous and deterministic: the same phrases give the same samples whatever the slicing. The
asynchronous side is in :mod:`ringtrue.voices.utterance`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.ports import SpeechChunk, WordMark
from ringtrue.voices.fargan.vocoder import NeuralVocoder
from ringtrue.voices.flite import Parameters, spoken_tokens
from ringtrue.voices.flite.frontend import BANDS, COEFFICIENTS
from ringtrue.voices.pieces import STRONG, WEAK, Piece, pieces
from ringtrue.voices.prosody import styled
from ringtrue.voices.resample import DELAY as HALVER_DELAY
from ringtrue.voices.resample import HalverState, halve
from ringtrue.voices.said import Said
from ringtrue.voices.vocoder import HOP, RATE, AnyVocoder, Vocoder

RATES: Final = (8000, 16000)

LEAD_FRAMES: Final = 3
"""Of the pause before a phrase, what is kept: 15 ms."""

TAIL_FRAMES: Final = 8
"""Of the pause after a phrase, what belongs to it: 40 ms. The rest comes before the next one."""

TARGET_DBFS: Final = -22.0
"""Level of active speech."""

POSTFILTER: Final = 0.4
"""Formant sharpening the voices were built for (``mlsa_beta`` of all three databases)."""

_KNEE: Final = 0.7
_CEILING: Final = 0.98
"""Of full scale: what is added to speech later, as the watermark is, must not clip either."""

_SCALE_OFFSET: Final = float(np.log(32768.0))
_SILENT_C0: Final = -40.0
"""Log gain of a frame of silence: far below one step of 16-bit PCM."""


FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]


class ParameterSource(Protocol):
    """What gives a voice's parameters: a Flite voice, or one transformed from it."""

    @property
    def alpha(self) -> float:
        """Frequency warping of the mel-cepstrum."""
        ...

    def analyse(self, tokens: Sequence[str]) -> Parameters:
        """Parameters of one phrase; for many threads at once, the same for the same tokens."""
        ...


class RenderedVoice:
    """A voice with its vocoder and the gain that brings it to :data:`TARGET_DBFS`."""

    def __init__(
        self, voice: ParameterSource, postfilter: float = POSTFILTER, *, neural: bool = False
    ) -> None:
        """Measure the voice's level on a fixed sentence.

        ``postfilter`` is the formant sharpening its cepstra are made for; ``neural`` says which
        vocoder speaks.
        """
        self.source = voice
        self.vocoder = vocoder_for(postfilter, neural=neural, alpha=voice.alpha)
        self.gain = self._calibrated(Vocoder(voice.alpha, postfilter=postfilter))
        self.said = Said()
        """What it said before and may say again."""

    def _calibrated(self, vocoder: Vocoder) -> float:
        """By the plain vocoder, which takes a third of the time and is as loud to a few percent."""
        tokens = spoken_tokens("the quick brown fox jumps over a lazy dog, and nobody is sorry.")
        found = self.source.analyse(tokens)
        samples = vocoder.stream().render(found.f0, scaled(found.mcep), found.strengths)
        return float(10 ** ((TARGET_DBFS - active_level(samples, RATE)) / 20))


def vocoder_for(postfilter: float, *, neural: bool, alpha: float = 0.42) -> AnyVocoder:
    """The vocoder a voice asks for: the neural one or the pulse one; both take the same arguments.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where the neural one's weights
    can't be read, and ``ValueError`` for a postfilter that isn't in 0..1.
    """
    kind = NeuralVocoder if neural else Vocoder
    return kind(alpha, postfilter=postfilter)


def scaled(mcep: npt.NDArray[np.floating]) -> RealArray:
    """Cepstra for full scale 1.0 instead of 32768."""
    result = mcep.astype(np.float64)
    result[:, 0] -= _SCALE_OFFSET
    return result


def active_level(samples: RealArray, rate: int) -> float:
    """Level in dBFS over the 20 ms blocks within 25 dB of the loudest; -inf for silence."""
    block = rate // 50
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    power = (blocks**2).mean(axis=1)
    if not len(power) or power.max() <= 0.0:
        return float("-inf")
    return float(10 * np.log10(power[power > power.max() * 10**-2.5].mean()))


@dataclass(slots=True)
class _Sounding:
    """Frames waiting to be vocoded, and marks waiting for their frame."""

    f0: FloatArray
    mcep: FloatArray
    strengths: FloatArray
    marks: deque[tuple[int, str]]
    """Sample at the output rate, counted from the utterance's start, and word."""

    last: bool
    at: int = 0

    @property
    def left(self) -> int:
        return len(self.f0) - self.at


@dataclass(frozen=True, slots=True)
class _Pause:
    f0: FloatArray
    mcep: FloatArray
    strengths: FloatArray


class Renderer:
    """State of one utterance. Not for two threads at a time."""

    def __init__(self, voice: RenderedVoice, rate: int) -> None:
        """Speak in ``voice`` at ``rate`` Hz. Raises ``ValueError`` for a rate not in RATES."""
        if rate not in RATES:
            raise ValueError(f"rate must be one of {RATES}, got {rate}")
        self._voice = voice
        self._rate = rate
        self._pieces: deque[Piece] = deque()
        self._sounding: _Sounding | None = None
        self._pause: _Pause | None = None
        self._stream = voice.vocoder.stream()
        self._halver = HalverState() if rate != RATE else None
        self._frames = 0
        self._samples = 0
        self._rested = 0
        """Frames given out since the last word's end."""

    @property
    def idle(self) -> bool:
        """True when every phrase begun has been rendered."""
        return not self._pieces and self._sounding is None

    def begin(self, phrase: str) -> None:
        """Queue a phrase, which may hold speech markup, behind those begun.

        A break sets the time from the end of the word before it to the beginning of the next one,
        whatever the punctuation, at least :data:`TAIL_FRAMES` + :data:`LEAD_FRAMES`.
        """
        self._pieces.extend(pieces(phrase))

    def next_slice(self, frames: int) -> SpeechChunk:
        """Render up to ``frames`` frames of 5 ms; the phrase's last slice says so.

        A slice never spans two phrases. Raises ``ValueError`` when :attr:`idle` and
        :class:`~ringtrue.streaming.errors.SynthesisError` if Flite fails.
        """
        if self._sounding is None:
            if not self._pieces:
                raise ValueError("nothing to render; begin a phrase first")
            piece = self._pieces.popleft()
            if piece.pause is not None:
                self._sounding = self._silence(piece.pause, last=piece.last)
                return self._render(self._sounding, frames)
            if not piece.tokens:
                words = tuple(WordMark(word, self._samples) for word, _ in piece.words)
                return SpeechChunk(b"", words, phrase_end=piece.last)
            self._sounding = self._analyse(piece)
        return self._render(self._sounding, frames)

    def finish(self) -> SpeechChunk:
        """What still rings when nothing more will be said (some 30 ms, decaying)."""
        return SpeechChunk(self._pcm(self._stream.finish()))

    def _analyse(self, piece: Piece) -> _Sounding:
        found = styled(self._voice.source.analyse(piece.tokens), piece.styles)
        start, end, stop = _bounds(found)
        mcep = scaled(found.mcep).astype(np.float32)
        pause = self._pause
        held = 0
        f0, cepstra, strengths = found.f0[start:end], mcep[start:end], found.strengths[start:end]
        if pause is not None:
            held = len(pause.f0)
            f0 = np.concatenate([pause.f0, f0])
            cepstra = np.concatenate([pause.mcep, cepstra])
            strengths = np.concatenate([pause.strengths, strengths])
        keep = _pause_frames(piece.tokens[-1], stop - end)
        after = slice(end, end + keep)
        self._pause = _Pause(found.f0[after], mcep[after], found.strengths[after])
        self._rested = end - found.token_ends[-1]
        origin = self._frames + held - start
        limit = self._sample_at(self._frames + len(f0)) - self._lag
        marks: deque[tuple[int, str]] = deque()
        last = self._sample_at(self._frames)
        for word, tokens in piece.words:
            if tokens:
                end_frame = origin + found.token_ends[tokens - 1]
                last = max(last, min(limit, self._sample_at(end_frame)))
            marks.append((last, word))
        return _Sounding(f0, cepstra, strengths, marks, piece.last)

    def _silence(self, pause: int, *, last: bool) -> _Sounding:
        """What is missing until the words before and after are ``pause`` frames apart."""
        count = max(0, pause - self._rested - LEAD_FRAMES)
        self._rested = -LEAD_FRAMES  # Taken into account; a pause that follows is added whole.
        self._pause = None
        mcep = np.zeros((count, COEFFICIENTS), np.float32)
        mcep[:, 0] = _SILENT_C0
        strengths = np.zeros((count, BANDS), np.float32)
        return _Sounding(np.zeros(count, np.float32), mcep, strengths, deque(), last)

    @property
    def _lag(self) -> int:
        """Output samples by which sound trails the frames pushed in."""
        return self._sample_at(0)

    def _sample_at(self, frame: int) -> int:
        """Output sample at which the moment before ``frame`` is heard."""
        sample = frame * HOP + self._voice.vocoder.delay
        return sample if self._halver is None else (sample + HALVER_DELAY) // 2

    def _render(self, sounding: _Sounding, frames: int) -> SpeechChunk:
        part = slice(sounding.at, sounding.at + frames)
        samples = self._stream.render(
            sounding.f0[part],
            sounding.mcep[part],
            sounding.strengths[part],
        )
        self._frames += len(sounding.f0[part])
        sounding.at += frames
        done = sounding.left <= 0
        pcm = self._pcm(samples)
        words: list[WordMark] = []
        while sounding.marks and (done or sounding.marks[0][0] <= self._samples):
            end, word = sounding.marks.popleft()
            words.append(WordMark(word, min(end, self._samples)))
        if done:
            self._sounding = None
        return SpeechChunk(pcm, tuple(words), phrase_end=done and sounding.last)

    def _pcm(self, samples: RealArray) -> bytes:
        if self._halver is not None:
            samples = halve(self._halver, samples)
        self._samples += len(samples)
        limited = _limit(samples * self._voice.gain)
        return np.rint(limited * 32767.0).astype("<i2").tobytes()


def _limit(samples: RealArray) -> RealArray:
    """Bend what exceeds the knee so that nothing reaches the ceiling; the rest is untouched."""
    over = np.abs(samples) - _KNEE
    if not (over > 0).any():
        return samples
    room = _CEILING - _KNEE
    bent = np.sign(samples) * (_KNEE + room * np.tanh(np.maximum(over, 0.0) / room))
    return np.where(over > 0, bent, samples)


def _bounds(found: Parameters) -> tuple[int, int, int]:
    """First frame to keep, end of the phrase's own frames, end of its trailing pause."""
    frames = len(found.f0)
    start, speech_end = 0, frames
    if found.phones[0][0] == "pau":
        start = max(0, min(found.phones[0][1], frames) - LEAD_FRAMES)
    if len(found.phones) > 1 and found.phones[-1][0] == "pau":
        speech_end = min(found.phones[-2][1], frames)
    return start, min(frames, max(speech_end + TAIL_FRAMES, start + 1)), frames


def _pause_frames(token: str, available: int) -> int:
    """How much of the trailing pause precedes the next phrase: by what the phrase ends with."""
    if token[-1] in STRONG:
        return available
    return min(available, 14) if token[-1] in WEAK else 0
