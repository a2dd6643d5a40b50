"""Fits ``voices/enrolment/weights.py``: what tells people from what the liveness checks look for.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_joins.py
    python scripts/fit_texture.py
    python scripts/fit_liveness.py

There are too few speakers to fit on some and report on others, so what is shipped is fitted on all
of them, and what is reported is cross-validated: a person, with all that was made of their voice,
is judged by models fitted without them (:func:`without`). A threshold is that which a small share
of people exceeds under models that never heard *them*, everybody counting alike.

Models are logistic regressions. Every speaker and synthesizer counts by the square root of how
often it is heard, and people as much as attacks. Twenty minutes of CPU, most for measuring
(:mod:`liveness_features`, which keeps it).
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_corpus import ROOT
from liveness_features import PERSON, Measured, measure

from ringtrue.voices.enrolment.logistic import Logistic

Real = npt.NDArray[np.float64]

OUT: Final = ROOT / "voices" / "enrolment" / "weights.py"
REFUSED: Final = {"synthesis": 0.015, "channel": 0.005, "splice": 0.04, "loudspeaker": 0.01}
"""Of people's recordings (pairs of them for the channel), by each model's threshold. The splices'
is the largest: most of who is above it are studios' prompts, cut by gates."""

PARTS: Final = {"neural": 5.0, "pulses": 5.0, "vocoded": 5.0}
"""Of what the synthesis model may refuse, the part that each kind gets; one for those not named."""

PENALTY: Final = {"synthesis": 5.0, "channel": 5.0, "splice": 5.0, "loudspeaker": 30.0}
QUADRATIC: Final = ("synthesis", "loudspeaker")
"""Models in which a trait may be odd to either side."""


def without(measured: Measured, people: Collection[str]) -> Measured:
    """What is left when some people and synthesizers are taken out."""
    return measured.where(np.array([str(name) not in people for name in measured.names]))


def fit(what: str, measured: Measured, *, attacks: bool = False) -> tuple[Logistic, Real]:
    """A model with its threshold, and everybody's scores by models without them.

    Those of attacks too where ``attacks`` says so, which takes some times as long; else they are
    NaN. No threshold depends on them.
    """
    mean, spread = measured.rows.mean(axis=0), measured.rows.std(axis=0) + 1e-6
    quadratic = what in QUADRATIC
    blank = Logistic(mean, spread, np.zeros((1, 1)), np.zeros(1), 0.0, quadratic)
    features = blank.features(measured.rows)
    weights, bias = regressions(measured, features, PENALTY[what])
    owners, labels = measured.names, measured.labels
    # Strung letters are nothing that anybody enrols with.
    judged = (labels == 0) & ~np.char.startswith(owners, "letters-")
    judged &= ~np.char.startswith(owners, "shapes-")
    odds = np.full((len(owners), len(bias)), np.nan)
    for owner in sorted(set(owners if attacks else owners[judged])):
        own = owners == owner
        others, constants = regressions(measured.where(~own), features[~own], PENALTY[what])
        odds[own] = features[own] @ others.T + constants
    # Each of several kinds may refuse a share of people, or the one that errs most would decide.
    kinds = kinds_of(measured)
    parts = np.array([PARTS.get(kind, 1.0) for kind in kinds])
    for number, part in enumerate(parts / parts.sum() if len(kinds) > 1 else ()):
        level = quantile(odds[judged, number], owners[judged], 1 - REFUSED[what] * part)
        odds[:, number] -= level
        bias[number] -= level
    scores = np.logaddexp.reduce(odds, axis=1)
    threshold = quantile(scores[judged], owners[judged], 1 - REFUSED[what])
    return Logistic(mean, spread, weights, bias, threshold, quadratic), scores


def kinds_of(measured: Measured) -> list[str]:
    """The kinds of attack, in the order of a model's rows."""
    return sorted(set(measured.kinds) - {PERSON})


def regressions(measured: Measured, features: Real, penalty: float) -> tuple[Real, Real]:
    """One regression for each kind of attack: weights (kinds, traits) and biases (kinds,)."""
    found = []
    for kind in kinds_of(measured):
        mask = (measured.kinds == PERSON) | (measured.kinds == kind)
        weights = balance(measured.names[mask], measured.labels[mask])
        found.append(logistic(features[mask], measured.labels[mask], weights, penalty))
    return np.array(found)[:, :-1], np.array(found)[:, -1]


def quantile(scores: Real, names: npt.NDArray[np.str_], share: float) -> float:
    """The score below which a share lies, everybody counting alike."""
    weights = np.zeros(len(scores))
    for name in set(names):
        weights[names == name] = 1 / np.sum(names == name)
    order = np.argsort(scores)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(scores[order][np.searchsorted(below, share)])


def logistic(features: Real, labels: Real, weights: Real, penalty: float) -> Real:
    """Coefficients and bias, by Newton's method, with a ridge on the coefficients."""
    columns = np.hstack([features, np.ones((len(features), 1))])
    ridge = np.diag(np.append(np.full(features.shape[1], penalty), 1e-6))
    b = np.zeros(columns.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(columns @ b, -40, 40)))
        gradient = columns.T @ (weights * (p - labels)) + ridge @ b
        curve = (columns * (weights * p * (1 - p) + 1e-9)[:, None]).T @ columns + ridge
        step = np.linalg.solve(curve, gradient)
        b -= step
        if np.abs(step).max() < 1e-6:
            break
    return b


def balance(names: npt.NDArray[np.str_], labels: Real) -> Real:
    """Weights so that nobody counts by their number of recordings, and both classes alike."""
    weights = np.zeros(len(labels))
    for label in (0.0, 1.0):
        for name in set(names[labels == label]):
            mask = (names == name) & (labels == label)
            weights[mask] = 1 / np.sqrt(mask.sum())
        weights[labels == label] *= len(labels) / 2 / weights[labels == label].sum()
    return weights


def report(what: str, measured: Measured, threshold: float, scores: Real) -> None:
    """Who is on the wrong side of a threshold while left out, and what is found of each kind."""
    print(f"{what}: threshold {threshold:.2f}")
    for kind in sorted(set(measured.kinds)):
        of_kind = measured.kinds == kind
        over = scores > threshold
        print(f"  {kind}: {of_kind.sum()}, over it {np.mean(over[of_kind]):.3f}")
        for name in sorted(set(measured.names[of_kind])):
            own = of_kind & (measured.names == name)
            print(f"    {name:26} {own.sum():4} {np.mean(over[own]):.2f}")


def source(values: Real) -> str:
    """An array as Python, some to a line."""
    shape = "" if values.ndim == 1 else f".reshape{values.shape}"
    body = textwrap.fill(", ".join(f"{value:.4f}" for value in values.ravel()), 92)
    return "np.array([\n" + textwrap.indent(body, " " * 8) + f"\n    ]){shape}"


def main() -> None:
    """Fit on everybody, tell how well, and write the weights."""
    parser = argparse.ArgumentParser(description="Fit the liveness checks' models.")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    lines = [
        '"""Models of the liveness checks, written by ``scripts/fit_liveness.py``."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "import numpy as np",
        "",
        "from ringtrue.voices.enrolment.logistic import Logistic",
        "",
        "# fmt: off",
    ]
    for what, measured in measure().items():
        model, scores = fit(what, measured, attacks=True)
        report(what, measured, model.threshold, scores)
        lines += [
            "",
            f"{what.upper()}: Final = Logistic(",
            f"    mean={source(model.mean)},",
            f"    spread={source(model.spread)},",
            f"    weights={source(model.weights)},",
            f"    bias={source(model.bias)},",
            f"    threshold={model.threshold:.4f},",
            f"    quadratic={model.quadratic},",
            ")",
        ]
    arguments.out.write_text("\n".join([*lines, ""]))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
