"""Networks that learnt the same from other beginnings, and answer together.

What one of them takes from chance, the others don't: the mean of their log odds errs less, above
all about people none of them has heard (Lakshminarayanan et al., "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", NeurIPS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np

from ringtrue.voices.enrolment.arrays import FloatArray, Layers, packed, unpacked

Network = TypeVar("Network", bound=Layers)


@dataclass(frozen=True, slots=True)
class Ensemble(Generic[Network]):
    """At least one network."""

    members: tuple[Network, ...]

    def odds(self, seen: FloatArray) -> FloatArray:
        """The mean of what the members answer, shape ``(answers,)``."""
        return np.asarray(np.mean([member.odds(seen) for member in self.members], axis=0))

    def to_bytes(self) -> bytes:
        """As one archive."""
        return packed(
            {
                f"{number}.{name}": array
                for number, member in enumerate(self.members)
                for name, array in member.named().items()
            }
        )

    @classmethod
    def from_bytes(cls, kind: type[Network], data: bytes) -> Self:
        """What :meth:`to_bytes` made of networks of a ``kind``.

        Raises ``ValueError`` or ``KeyError`` for anything else.
        """
        found: dict[str, dict[str, FloatArray]] = {}
        for name, array in unpacked(data).items():
            number, _, layer = name.partition(".")
            found.setdefault(number, {})[layer] = array
        if not found:
            raise ValueError("an archive without a network")
        return cls(tuple(kind.from_named(member) for member in found.values()))
