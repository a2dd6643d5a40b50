"""The exception tree of ``ringtrue.voices.enrolment``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── EnrolmentError             a voice can't be enrolled
        ├── RecordingError         bytes that are no recording, or not one that is taken
        └── EnrolmentRefused       checks failed; has every ``findings``
"""

from __future__ import annotations

from collections.abc import Sequence

from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.enrolment.findings import Finding


class EnrolmentError(RingtrueError):
    """A voice can't be enrolled."""


class RecordingError(EnrolmentError):
    """The bytes are no recording, or not one that is taken."""


class EnrolmentRefused(EnrolmentError):
    """At least one check failed."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        """``findings`` are those of all checks, passed ones too."""
        self.findings = tuple(findings)
        super().__init__("; ".join(f.message for f in self.failed))

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The checks that failed."""
        return tuple(finding for finding in self.findings if not finding.passed)
