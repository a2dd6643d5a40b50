"""Whisper by ``faster-whisper`` (CTranslate2), streamed by local agreement over a bounded window.

Decoding runs in threads: CTranslate2 releases the interpreter lock. Every ``step`` seconds of new
audio the held window is decoded again, and what two hypotheses agree on is confirmed
(:mod:`.agreement`); confirmed audio is dropped once the window is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from faster_whisper import WhisperModel

from ringtrue.streaming.dsp import StreamResampler
from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.agreement import LocalAgreement, TimedWord
from ringtrue.streaming.recognizers.port import Transcript

_log = structlog.get_logger(__name__)

MODEL_RATE: Final = 16000
_PATH_PREFIXES: Final = ("/", "./", "../")
"""What tells a missing directory from a hub name."""

_PROMPT_CHARACTERS: Final = 200
"""How much confirmed text a decode is told of, as in the paper."""


@dataclass(frozen=True, slots=True)
class WhisperPolicy:
    """How Whisper is run."""

    step: float = 0.8
    """Seconds of new audio between two partial decodes."""

    window: float = 12.0
    """Seconds of audio held at most; Whisper itself can't take over 30."""

    max_seconds: float = 60.0
    """Longest utterance; more is refused."""

    beam_size: int = 1
    """Beams of a decode."""

    no_speech_threshold: float | None = 0.6
    """A segment more likely silent than this, and unlikely as text, is dropped; None keeps all."""

    log_prob_threshold: float | None = -1.0
    """What "unlikely as text" means, in mean log probability per token; None keeps all."""

    workers: int = 1
    """Decodes at once."""

    threads: int = 0
    """CPU threads per decode; 0 leaves it to CTranslate2."""

    finish_timeout: float = 15.0
    """Seconds a final text may take before the utterance fails."""


class WhisperRecognizer:
    """One Whisper model for many calls."""

    def __init__(
        self,
        model: str | Path,
        *,
        language: str | None = "en",
        device: str = "auto",
        compute_type: str = "default",
        cache: Path | None = None,
        policy: WhisperPolicy | None = None,
    ) -> None:
        """``model`` is a directory of a converted model, a size (``base.en``) or a hub name.

        ``language`` is an ISO 639-1 code, or None to detect it in every utterance. ``cache`` is
        where hub models are kept. Nothing is loaded before :meth:`load`.
        """
        self.policy = policy or WhisperPolicy()
        self._source = str(model)
        self._is_path = isinstance(model, Path) or self._source.startswith(_PATH_PREFIXES)
        self._language = language
        self._options: dict[str, Any] = {
            "device": device,
            "compute_type": compute_type,
            "cpu_threads": self.policy.threads,
            "num_workers": self.policy.workers,
            "download_root": None if cache is None else str(cache),
        }
        self._model: WhisperModel | None = None
        self._executor = ThreadPoolExecutor(self.policy.workers, thread_name_prefix="whisper")
        self._loading = asyncio.Lock()
        self._decoding: set[asyncio.Future[list[TimedWord]]] = set()

    @property
    def name(self) -> str:
        """``whisper`` and the model's name or folder."""
        return f"whisper/{Path(self._source).name}"

    @property
    def finish_p99(self) -> float:
        """An assumption, as it depends on model and machine: one decode within a second."""
        return 1.0

    @property
    def busy(self) -> bool:
        """True while every worker decodes."""
        return len(self._decoding) >= self.policy.workers

    async def load(self) -> None:
        """Load the model, from the hub if it is no directory. Idempotent.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` saying what to do.
        """
        async with self._loading:
            if self._model is None:
                loop = asyncio.get_running_loop()
                self._model = await loop.run_in_executor(self._executor, self._load)

    def _load(self) -> WhisperModel:
        directory = Path(self._source)
        local = self._is_path or directory.is_dir()
        if local:
            wanted = ("model.bin", "config.json", "tokenizer.json")
            missing = [name for name in wanted if not (directory / name).is_file()]
            if missing:
                raise RecognizerError(
                    f"Whisper model directory {self._source!r} lacks {', '.join(missing)}; it must "
                    "hold a model converted by ct2-transformers-converter with its tokenizer.json"
                )
        try:
            return WhisperModel(self._source, local_files_only=local, **self._options)
        except Exception as error:  # the hub client raises a dozen unrelated types
            if local:
                raise RecognizerError(
                    f"can't load the Whisper model in {self._source!r}: {error}"
                ) from error
            raise RecognizerError(
                f"can't get the Whisper model {self._source!r} from the Hugging Face hub "
                f"({type(error).__name__}: {_first_line(error)}). Name a directory with a "
                "converted model instead, or fetch it once where the hub can be reached and set "
                "HF_HUB_OFFLINE=1 to use the cache"
            ) from error

    async def decode(
        self, audio: npt.NDArray[np.float32], prompt: str, offset: float
    ) -> list[TimedWord]:
        """Words of ``audio`` (16 kHz, −1…1), timed from ``offset`` seconds.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` when decoding fails.
        """
        if self._model is None:
            raise RecognizerError(f"{self.name} is not loaded")
        running = asyncio.get_running_loop().run_in_executor(
            self._executor, self._decode, self._model, audio, prompt, offset
        )
        self._decoding.add(running)
        running.add_done_callback(self._decoding.discard)
        try:
            return await asyncio.shield(running)
        except (RuntimeError, ValueError) as error:
            raise RecognizerError(f"Whisper failed: {_first_line(error)}") from error

    def _decode(
        self, model: WhisperModel, audio: npt.NDArray[np.float32], prompt: str, offset: float
    ) -> list[TimedWord]:
        segments, _ = model.transcribe(
            audio,
            language=self._language,
            beam_size=self.policy.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            initial_prompt=prompt or None,
            word_timestamps=True,
            without_timestamps=False,
            vad_filter=False,
            no_speech_threshold=self.policy.no_speech_threshold,
            log_prob_threshold=self.policy.log_prob_threshold,
        )
        return [
            TimedWord(word.word, offset + word.start, offset + word.end, word.probability)
            for segment in segments
            for word in segment.words or ()
        ]

    def open(self, rate: int) -> WhisperStream:
        """A call's stream at ``rate`` Hz; raises ``ValueError`` unless 8000 or 16000."""
        if rate not in (8000, MODEL_RATE):
            raise ValueError(f"rate must be 8000 or {MODEL_RATE} Hz, got {rate}")
        return WhisperStream(self, rate)

    async def close(self) -> None:
        """Wait for running decodes and free the model. Idempotent."""
        if self._decoding:
            await asyncio.gather(*self._decoding, return_exceptions=True)
        await asyncio.to_thread(self._executor.shutdown)
        self._model = None


class _Utterance:
    """Audio and hypotheses of one utterance."""

    def __init__(self, rate: int) -> None:
        self.resampler = StreamResampler(rate, MODEL_RATE) if rate != MODEL_RATE else None
        self.held = bytearray()
        """PCM at 16 kHz not dropped yet."""

        self.offset = 0
        """Samples dropped before it."""

        self.decoded = 0
        """Samples the last decode had seen."""

        self.agreement = LocalAgreement()
        self.step: asyncio.Task[None] | None = None
        self.failure: RecognizerError | None = None

    @property
    def samples(self) -> int:
        return self.offset + len(self.held) // 2

    def add(self, pcm: bytes) -> None:
        self.held += self.resampler.push(pcm) if self.resampler is not None else pcm

    def audio(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(bytes(self.held), np.int16).astype(np.float32) / 32768.0

    def prompt(self) -> str:
        """Confirmed text whose audio is gone: the decode can't hear it again."""
        dropped = self.offset / MODEL_RATE
        words = [word.text for word in self.agreement.confirmed if word.end <= dropped]
        return "".join(words)[-_PROMPT_CHARACTERS:].strip()

    def trim(self, window: float) -> None:
        """Drop confirmed audio once more than ``window`` seconds are held."""
        if len(self.held) // 2 <= window * MODEL_RATE:
            return
        cut = max(self.agreement.confirmed_until, self.samples / MODEL_RATE - window)
        self.agreement.confirm_until(cut)
        drop = min(int(cut * MODEL_RATE), self.samples) - self.offset
        if drop > 0:
            del self.held[: 2 * drop]
            self.offset += drop


class WhisperStream:
    """One call's stream."""

    def __init__(self, recognizer: WhisperRecognizer, rate: int) -> None:
        """Made by :meth:`WhisperRecognizer.open`."""
        self._recognizer = recognizer
        self._rate = rate
        self._utterance: _Utterance | None = None
        self._shown = ""
        self._steps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open an utterance."""
        await self.cancel()
        self._shown = ""
        self._utterance = _Utterance(self._rate)

    async def accept(self, pcm: bytes) -> str | None:
        """Take audio; returns the partial text if it changed. Raises :class:`RecognizerError`."""
        utterance = self._opened()
        if utterance.failure is not None:
            await self.cancel()
            raise utterance.failure
        policy = self._recognizer.policy
        utterance.add(pcm)
        if utterance.samples > policy.max_seconds * MODEL_RATE:
            await self.cancel()
            raise RecognizerError(f"utterance is longer than {policy.max_seconds:g} s")
        utterance.trim(2 * policy.window)
        fresh = utterance.samples - utterance.decoded
        if (
            utterance.step is None
            and fresh >= policy.step * MODEL_RATE
            and not self._recognizer.busy
        ):
            utterance.step = asyncio.create_task(self._step(utterance))
            self._steps.add(utterance.step)
            utterance.step.add_done_callback(self._steps.discard)
        text = utterance.agreement.text()
        if text == self._shown:
            return None
        self._shown = text
        return text

    async def _step(self, utterance: _Utterance) -> None:
        try:
            utterance.agreement.add(await self._words(utterance))
            utterance.trim(self._recognizer.policy.window)
        except RecognizerError as error:
            utterance.failure = error
        finally:
            utterance.step = None

    async def _words(self, utterance: _Utterance) -> Sequence[TimedWord]:
        utterance.decoded = utterance.samples
        return await self._recognizer.decode(
            utterance.audio(), utterance.prompt(), utterance.offset / MODEL_RATE
        )

    async def finish(self) -> Transcript:
        """Wait for the final text. Raises :class:`RecognizerError`."""
        utterance = self._opened()
        policy = self._recognizer.policy
        try:
            async with asyncio.timeout(policy.finish_timeout):
                if utterance.step is not None:
                    await asyncio.shield(utterance.step)
                if utterance.failure is not None:
                    raise utterance.failure
                if utterance.resampler is not None:
                    utterance.held += utterance.resampler.flush()
                utterance.agreement.close(await self._words(utterance) if utterance.held else None)
        except TimeoutError:
            raise RecognizerError(f"no final text within {policy.finish_timeout:g} s") from None
        finally:
            self._utterance = None
        words = utterance.agreement.confirmed
        certainty = sum(word.probability for word in words) / len(words) if words else 0.0
        return Transcript(utterance.agreement.text(), certainty)

    def _opened(self) -> _Utterance:
        if self._utterance is None:
            raise RecognizerError("no utterance is open: start one first")
        return self._utterance

    async def cancel(self) -> None:
        """Drop the open utterance; a decode under way ends unheard."""
        self._utterance = None

    async def close(self) -> None:
        """Cancel, and wait for a decode under way."""
        await self.cancel()
        if self._steps:
            await asyncio.gather(*self._steps, return_exceptions=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
