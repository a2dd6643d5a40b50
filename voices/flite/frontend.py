"""Text to vocoder parameters: one Flite voice."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.errors import SynthesisError
from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.flite.library import FRAME_SECONDS, Flite
from ringtrue.voices.flite.rows import copy_rows
from ringtrue.voices.flite.structs import Track

MAX_TOKENS: Final = 40
"""Tokens in one analysis; its cost grows with them (about 1 ms each), so callers stay below."""

COEFFICIENTS: Final = 25
BANDS: Final = 5

_WORD_END: Final = b"daughtern.R:SylStructure.daughtern.daughtern.R:Segment.end"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a vocoder needs of one phrase, in frames of 5 ms."""

    f0: FloatArray
    """Fundamental frequency in Hz, shape (T,); 0 where unvoiced."""

    mcep: FloatArray
    """Mel-cepstrum c0..c24 of the log magnitude (16-bit scale), shape (T, 25)."""

    strengths: FloatArray
    """Voicing strength per band (0 noise .. 1 periodic), shape (T, 5)."""

    phones: tuple[tuple[str, int], ...]
    """Phone and the frame it ends before; ``pau`` is silence."""

    token_ends: tuple[int, ...]
    """For each token given, the frame it ends before; never falling."""


class FliteVoice:
    """One voice; :meth:`analyse` may run in many threads at once."""

    def __init__(self, flite: Flite, name: str) -> None:
        """Register voice ``name`` (one of :data:`~ringtrue.voices.flite.library.VOICES`).

        Speaks one phrase as a self-test. Raises
        :class:`~ringtrue.voices.errors.EngineUnavailableError` if the library is missing or what
        it returns isn't what version 2.2 returns.
        """
        self.name = name
        self._flite = flite
        self._voice, self._database = flite.voice(name)
        self.alpha = float(self._database.mlsa_alpha)
        """Frequency warping of the mel-cepstrum."""
        self._self_test()

    def analyse(self, tokens: Sequence[str]) -> Parameters:
        """Parameters of one phrase, given as tokens of :func:`..text.spoken_tokens`.

        Raises ``ValueError`` for no tokens or more than :data:`MAX_TOKENS`, and
        :class:`~ringtrue.streaming.errors.SynthesisError` if Flite returns nothing.
        """
        if not 0 < len(tokens) <= MAX_TOKENS:
            raise ValueError(f"tokens must number 1..{MAX_TOKENS}, got {len(tokens)}")
        flite = self._flite
        utterance = flite.synth_text(" ".join(tokens).encode("ascii"), self._voice)
        if not utterance:
            raise SynthesisError(f"flite voice {self.name} returned nothing")
        try:
            features = utterance.contents.features
            raw = flite.val_track(flite.feat_val(features, b"param_track"))
            strengths = _rows(flite.val_track(flite.feat_val(features, b"str_track")))
            smooth = flite.mlpg(raw, ctypes.byref(self._database))
            try:
                track = _rows(smooth)
            finally:
                flite.delete_track(smooth)
            phones = self._phones(utterance)
            ends = self._token_ends(utterance, len(tokens), len(track))
        finally:
            flite.delete_utterance(utterance)
        return Parameters(
            f0=np.ascontiguousarray(track[:, 0]),
            mcep=np.ascontiguousarray(track[:, 1:]),
            strengths=strengths,
            phones=phones,
            token_ends=ends,
        )

    def _phones(self, utterance: Any) -> tuple[tuple[str, int], ...]:
        flite = self._flite
        phones: list[tuple[str, int]] = []
        item = flite.relation_head(flite.utt_relation(utterance, b"Segment"))
        while item:
            end = _frame(flite.item_feat_float(item, b"end"))
            phones.append((flite.item_feat_string(item, b"name").decode("ascii"), end))
            item = flite.item_next(item)
        return tuple(phones)

    def _token_ends(self, utterance: Any, expected: int, frames: int) -> tuple[int, ...]:
        flite = self._flite
        ends: list[int] = []
        item = flite.relation_head(flite.utt_relation(utterance, b"Token"))
        while item:
            end = _frame(flite.ffeature_float(item, _WORD_END))
            ends.append(min(frames, max(end, ends[-1] if ends else 0)))
            item = flite.item_next(item)
        if len(ends) != expected:
            raise SynthesisError(
                f"flite voice {self.name} split {expected} tokens into {len(ends)}"
            )
        return tuple(ends)

    def _self_test(self) -> None:
        tokens = ["this", "is", "a", "test."]
        try:
            found = self.analyse(tokens)
        except (SynthesisError, ValueError) as error:
            raise EngineUnavailableError(f"flite voice {self.name}: {error}") from error
        frames = len(found.f0)
        last = found.phones[-1] if found.phones else ("", 0)
        sound = (
            found.mcep.shape == (frames, COEFFICIENTS)
            and found.strengths.shape == (frames, BANDS)
            and bool(np.isfinite(found.mcep).all())
            and bool(((found.f0 == 0) | ((found.f0 > 40) & (found.f0 < 800))).all())
            and found.phones[0][0] == "pau"
            and last[0] == "pau"
            and abs(last[1] - frames) <= 2
            and 40 < found.token_ends[-1] < last[1]
        )
        if not sound:
            raise EngineUnavailableError(
                f"flite voice {self.name}: parameters of a test phrase don't look as version 2.2's"
            )


def _frame(seconds: float) -> int:
    return round(seconds / FRAME_SECONDS)


def _rows(pointer: Any) -> FloatArray:
    track: Track = pointer.contents
    if track.num_frames <= 0 or track.num_channels <= 0:
        raise SynthesisError(f"flite returned {track.num_frames}x{track.num_channels} parameters")
    rows = np.empty((track.num_frames, track.num_channels), np.float32)
    copy_rows(track.frames, rows)
    return rows
