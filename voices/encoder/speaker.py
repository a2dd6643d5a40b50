"""The speaker encoder: GE2E (Wan et al., "Generalized End-to-End Loss for Speaker Verification",
ICASSP 2018) with the weights of resemblyzer 0.1.4, run by ONNX Runtime.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder.embeddings import Embedding, centroid
from ringtrue.voices.encoder.errors import EncoderUnavailableError, NotEnoughSpeechError
from ringtrue.voices.encoder.mel import HOP, mel_spectrogram
from ringtrue.voices.encoder.speech import MIN_SPEECH_SECONDS, speech_only

if TYPE_CHECKING:
    import onnxruntime

MODEL: Final = "ge2e.onnx"
MODEL_SHA256: Final = "6ddb00b67c2ba3310d90fa8c3bd918ef16265cbcacd41f525b29fe5efe5982a3"

WINDOW: Final = 160
"""Frames the network reads at once: 1.6 s."""

STEP: Final = 77
"""Frames from window to window: 1.3 windows a second, as resemblyzer does by default."""

COVERAGE: Final = 0.75
"""Share of the last window that must be speech, unless it is the only one; the rest is zeros."""

BATCH: Final = 40
"""Windows computed together (30 s of speech); bounds the memory, about 80 MB while it runs."""


class SpeakerEncoder:
    """Turns recordings into embeddings. Load one per process; many threads may use it at once.

    :meth:`embed` takes tens of milliseconds of CPU and releases the interpreter lock for most of
    them: call it from a worker thread, not from the event loop. Where a recording goes through
    the same processor and version, its embedding is the same to the bit.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """Wrap a loaded network; use :meth:`load`."""
        self._session = session

    @classmethod
    def load(cls, path: Path | None = None) -> SpeakerEncoder:
        """Load the network that ships with this package, or the same file from ``path``.

        Takes about 20 ms once ONNX Runtime is imported. Raises
        :class:`~ringtrue.voices.encoder.errors.EncoderUnavailableError`.
        """
        try:
            data = (path or resources.files(__package__).joinpath(MODEL)).read_bytes()
        except OSError as error:
            raise EncoderUnavailableError(
                f"the speaker encoder's network {path or MODEL} can't be read: {error.strerror}"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != MODEL_SHA256:
            raise EncoderUnavailableError(
                f"the speaker encoder's network {path or MODEL} has SHA-256 {found}; "
                f"it must be {MODEL_SHA256}"
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # what a long recording took is given back
        try:
            session = onnxruntime.InferenceSession(
                data, providers=["CPUExecutionProvider"], sess_options=options
            )
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            raise EncoderUnavailableError(
                f"ONNX Runtime {onnxruntime.__version__} can't load {MODEL}: {error}"
            ) from error
        return cls(session)

    def embed(self, samples: npt.NDArray[Any], rate: int) -> Embedding:
        """The speaker of ``samples``: shape (256,), float32, unit norm, no negative values.

        ``samples`` is mono, shape (n,): int16, or float32 or float64 within -1 to 1, of one
        speaker; ``rate`` is in Hz. Its level does not matter, within what it resolves. Raises
        :class:`~ringtrue.voices.encoder.errors.UnusableAudioError`, or its subclass
        :class:`~ringtrue.voices.encoder.errors.NotEnoughSpeechError` under 1.2 s of speech.

        Equals resemblyzer's ``embed_utterance(preprocess_wav(...))`` of the recording at
        -24 dBFS to a cosine of 0.999 or better.
        """
        return centroid(self.embed_windows(samples, rate))

    def embed_windows(self, samples: npt.NDArray[Any], rate: int) -> Embedding:
        """One embedding for each 1.6 s of speech, 0.77 s apart: (windows, 256), unit norm.

        Shows whether the speaker changes within a recording. Silences are cut out first, so a
        window is no position in ``samples``. Takes and raises what :meth:`embed` does.
        """
        mels = network_input(speech_only(samples, rate))
        raw = np.concatenate(
            [
                self._session.run(None, {"mels": mels[:, at : at + BATCH]})[0]
                for at in range(0, mels.shape[1], BATCH)
            ]
        )
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        voiced = lengths[:, 0] > 0
        if not voiced.any():
            raise NotEnoughSpeechError(
                "the network hears no voice in this audio", found=0.0, needed=MIN_SPEECH_SECONDS
            )
        return np.asarray(raw[voiced] / lengths[voiced], np.float32)


def network_input(speech: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Overlapping spectrograms of ``speech`` (16 kHz float32), shape (160, windows, 40)."""
    frames = -(-(len(speech) + 1) // HOP)
    starts = list(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    covered = (len(speech) - starts[-1] * HOP) / (WINDOW * HOP)
    if covered < COVERAGE and len(starts) > 1:
        starts.pop()
    end = (starts[-1] + WINDOW) * HOP
    mels = mel_spectrogram(np.pad(speech, (0, max(0, end - len(speech)))))
    return np.ascontiguousarray(np.stack([mels[at : at + WINDOW] for at in starts], axis=1))
