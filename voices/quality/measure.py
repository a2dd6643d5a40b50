"""Measuring one voice at a time against everybody it could be taken for. Blocking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder import SpeakerEncoder, centroid
from ringtrue.voices.quality.judge import CepstralJudge
from ringtrue.voices.quality.naturalness import ListenersMark
from ringtrue.voices.quality.recognition import ScriptRecognizer
from ringtrue.voices.quality.report import Row

RATE: Final = 16000

Recording = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A real person's recordings, mono at 16 kHz, full scale 1.0."""

    name: str
    enrolment: Sequence[Recording] = field(repr=False)
    """What a voice may be made of."""

    held_out: Sequence[Recording] = field(repr=False)
    """What it is compared with; not one sample of it is in ``enrolment``."""


class Examiner:
    """Everything a voice is measured with, loaded once."""

    def __init__(
        self,
        candidates: Mapping[str, Sequence[Recording]],
        background: Sequence[Recording],
        script: Sequence[str],
        others: Sequence[str] = (),
    ) -> None:
        """For voices that could be any of ``candidates``, saying ``script``.

        ``background`` is of other speakers than the candidates; ``others`` are sentences that
        share the domain's language model with the script. Takes half a minute. Raises
        :class:`~ringtrue.voices.errors.EngineUnavailableError` without DNSMOS.
        """
        self._encoder = SpeakerEncoder.load()
        self._centroids = {
            name: centroid([self._encoder.embed(one, RATE) for one in recordings])
            for name, recordings in candidates.items()
        }
        self._judge = CepstralJudge(background, candidates)
        self._mark = ListenersMark()
        self._domain = ScriptRecognizer(script, others, general=False)
        self._general = ScriptRecognizer(script, general=True)
        self._script = tuple(script)

    def cosines(self, utterances: Sequence[Recording]) -> tuple[tuple[str, ...], Recording]:
        """Names of the candidates, and each utterance's cosine to each: (utterances, names)."""
        embedded = np.stack([self._encoder.embed(one, RATE) for one in utterances])
        centroids = np.stack(list(self._centroids.values()))
        return tuple(self._centroids), np.asarray(embedded @ centroids.T, np.float32)

    def row(
        self,
        speaker: str,
        kind: str,
        utterances: Sequence[Recording],
        *,
        errors: tuple[float, float] | None = None,
        seconds: float | None = None,
    ) -> Row:
        """All measures of ``utterances``; ``errors`` as :meth:`errors` gives them, if scripted."""
        names, cosines = self.cosines(utterances)
        own = names.index(speaker)
        rest = np.delete(cosines, own, axis=1)
        ratios = [self._judge.ratios(one) for one in utterances]
        given = [max(one, key=one.__getitem__) for one in ratios]
        return Row(
            speaker=speaker,
            kind=kind,
            cosine=_rounded(cosines[:, own].mean()),
            nearest_other=_rounded(rest.mean(axis=0).max()),
            top1=_rounded((cosines[:, own] > rest.max(axis=1)).mean()),
            llr=_rounded(np.mean([one[speaker] for one in ratios])),
            llr_top1=_rounded(np.mean([name == speaker for name in given])),
            p808=_rounded(np.mean([self._mark(one) for one in utterances])),
            wer=None if errors is None else errors[0],
            wer_general=None if errors is None else errors[1],
            seconds=None if seconds is None else round(seconds, 1),
        )

    def errors(self, utterances: Sequence[Recording]) -> tuple[float, float]:
        """Word error rates of the script, in its domain and with the general model."""
        domain = _rounded(self._domain.error_rate(self._script, utterances))
        return domain, self.general_error_rate(utterances)

    def general_error_rate(self, utterances: Sequence[Recording]) -> float:
        """Word error rate of the script with the general model, which tells clones apart best."""
        return _rounded(self._general.error_rate(self._script, utterances))

    def close(self) -> None:
        """Remove the recognizers' files."""
        self._domain.close()
        self._general.close()


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
