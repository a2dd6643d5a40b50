"""What a run of the quality bench found, as a table, as JSON, and against an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

TOLERANCE: Final = {
    "cosine": 0.02,
    "top1": 0.05,
    "llr": 0.08,
    "llr_top1": 0.10,
    "p808": 0.08,
    "wer": 0.02,
    "wer_general": 0.04,
}
"""By how much a figure may be worse than the baseline's before it counts as a drop."""

_LESS_IS_BETTER: Final = frozenset({"wer", "wer_general"})


class ReportError(ValueError):
    """A file that is no report of the quality bench."""


@dataclass(frozen=True, slots=True)
class Row:
    """One speaker's real voice, the stock voice nearest to it, or its clone."""

    speaker: str
    kind: str
    """``real``, ``base`` or ``cloned``."""

    cosine: float
    """Mean GE2E cosine of utterances to the centroid of the speaker's held-out recordings."""

    nearest_other: float
    """The same to whichever other candidate is nearest."""

    top1: float
    """Share of utterances nearer to the speaker than to any other candidate, by GE2E."""

    llr: float
    """Mean log likelihood ratio per frame to the background, by the cepstral judge."""

    llr_top1: float
    """Share of utterances that the cepstral judge gives to the speaker."""

    p808: float
    """Mean DNSMOS P.808 mark, 1 to 5."""

    wer: float | None = None
    """Word error rate with a domain language model; None where the script wasn't spoken."""

    wer_general: float | None = None
    """The same with the general model."""

    seconds: float | None = None
    """Wall time the clone took to make."""


@dataclass(frozen=True, slots=True)
class Report:
    """Rows of one run."""

    rows: tuple[Row, ...]

    def of(self, kind: str) -> tuple[Row, ...]:
        """Rows of one kind."""
        return tuple(row for row in self.rows if row.kind == kind)

    def row(self, speaker: str, kind: str) -> Row | None:
        """The row of a speaker and kind, if it was measured."""
        return next((r for r in self.rows if (r.speaker, r.kind) == (speaker, kind)), None)

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"rows": [asdict(r) for r in self.rows]}, indent=1) + "\n")

    @staticmethod
    def read(path: Path) -> Report:
        """What :meth:`write` saved. Raises :class:`ReportError` for anything else."""
        try:
            return Report(tuple(Row(**row) for row in json.loads(path.read_text())["rows"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path} is no report of the quality bench: {error}") from error


def drops(now: Report, baseline: Report) -> list[str]:
    """What is worse than in ``baseline`` by more than :data:`TOLERANCE`, clone by clone."""
    found = []
    for before in baseline.of("cloned"):
        after = now.row(before.speaker, "cloned")
        if after is None:
            found.append(f"{before.speaker}: not measured")
            continue
        for name, tolerance in TOLERANCE.items():
            old, new = getattr(before, name), getattr(after, name)
            if old is None:
                continue
            if new is None:
                found.append(f"{before.speaker}: {name} not measured")
                continue
            fall = new - old if name in _LESS_IS_BETTER else old - new
            if fall > tolerance:
                found.append(
                    f"{before.speaker}: {name} {new:.3f}, was {old:.3f} (may fall by {tolerance:g})"
                )
    return found


def goals(report: Report) -> list[tuple[str, bool]]:
    """What cloned voices are to reach, with whether they do; see each line."""
    cloned = report.of("cloned")
    pairs = [(row, base) for row in cloned if (base := report.row(row.speaker, "base"))]
    if not cloned or len(pairs) != len(cloned):
        return [("every clone has its base beside it", False)]
    if any(row.wer is None or row.wer_general is None for pair in pairs for row in pair):
        return [("every clone and base was recognized", False)]
    cosine = _mean(row.cosine for row in cloned)
    gain = _mean(row.p808 - base.p808 for row, base in pairs)
    by_domain = max(_added(row.wer, base.wer) for row, base in pairs)
    by_general = max(_added(row.wer_general, base.wer_general) for row, base in pairs)
    return [
        (f"mean cosine {cosine:.3f} (0.82 or more)", cosine >= 0.82),
        (
            f"word error rate at most {by_domain:+.3f} on the base's, by the domain's model "
            "(+0.02 or less)",
            by_domain <= 0.02,
        ),
        (
            f"word error rate at most {by_general:+.3f} on the base's, by the general model "
            "(+0.02 or less)",
            by_general <= 0.02,
        ),
        (
            "identified by the encoder, every utterance",
            all(row.top1 == 1.0 for row in cloned),
        ),
        (
            "identified by the cepstral judge, most utterances of each",
            all(row.llr_top1 > 0.5 for row in cloned),
        ),
        (f"mean P.808 {gain:+.2f} on the base's (+0.15 or more)", gain >= 0.15),
    ]


def _added(after: float | None, before: float | None) -> float:
    """How much a figure grew; nothing where it wasn't taken."""
    return 0.0 if after is None or before is None else after - before


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of a plain table."""
    names = [field.name for field in fields(Row)]
    cells = [[_cell(getattr(row, name)) for name in names] for row in rows]
    widths = [
        max(len(name), *(len(line[i]) for line in cells)) if cells else len(name)
        for i, name in enumerate(names)
    ]
    for line in [names, *cells]:
        padded = [
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3f}"
