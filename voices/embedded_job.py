"""Making a voice of the embedded engine: what its process gets, does and gives back."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ringtrue.voices.engine import SPEECH_RATE, OnProgress, Speech
from ringtrue.voices.errors import CloningError

MAX_SECONDS: Final = 120.0
"""Longest recording taken, speech and statement alike."""

MAX_TRANSCRIPT: Final = 2000
"""Characters of the statement's words."""

_HEADER: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Request:
    """One voice to be made."""

    speech: Speech
    library_dir: Path | None = None
    """Where Flite's libraries are, as named to the engine."""

    search: Sequence[Path] = ()
    """Where they are looked for first."""

    def encode(self) -> bytes:
        """As bytes: a JSON header with its length before it, then float32 samples.

        Raises :class:`~ringtrue.voices.errors.CloningError` for recordings that aren't mono or
        are longer than :data:`MAX_SECONDS`, and for a transcript that is too long.
        """
        speech = self.speech
        parts = [speech.samples] if speech.statement is None else [speech.samples, speech.statement]
        for name, part in zip(("speech", "statement"), parts, strict=False):
            if part.ndim != 1:
                raise CloningError(f"the {name} must be mono, shape (n,), got {part.shape}")
            if len(part) > MAX_SECONDS * SPEECH_RATE:
                raise CloningError(
                    f"the {name} lasts {len(part) / SPEECH_RATE:.1f} s; "
                    f"at most {MAX_SECONDS:g} s are allowed"
                )
        if len(speech.transcript or "") > MAX_TRANSCRIPT:
            raise CloningError(f"a statement's words take at most {MAX_TRANSCRIPT} characters")
        header = json.dumps(
            {
                "sizes": [len(part) for part in parts],
                "transcript": speech.transcript,
                "library_dir": None if self.library_dir is None else str(self.library_dir),
                "search": [str(place) for place in self.search],
            }
        ).encode()
        samples = b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)
        return _HEADER.pack(len(header)) + header + samples

    @staticmethod
    def decode(data: bytes) -> Request:
        """What :meth:`encode` was called on."""
        (size,) = _HEADER.unpack_from(data)
        start = _HEADER.size + size
        header = json.loads(data[_HEADER.size : start])
        cuts = np.cumsum(header["sizes"])[:-1]
        parts = np.split(np.frombuffer(data, "<f4", offset=start).astype(np.float32), cuts)
        library_dir = header["library_dir"]
        return Request(
            Speech(parts[0], parts[1] if len(parts) > 1 else None, header["transcript"]),
            None if library_dir is None else Path(library_dir),
            tuple(Path(place) for place in header["search"]),
        )


def clone(data: bytes, on_progress: OnProgress) -> bytes:
    """Make the voice asked for; its state. A :data:`~ringtrue.voices.job.Job`."""
    from ringtrue.voices.cloning.fit import clone as fit

    request = Request.decode(data)
    model = fit(
        request.speech,
        library_dir=request.library_dir,
        search=request.search,
        on_progress=on_progress,
    )
    return model.to_bytes()
