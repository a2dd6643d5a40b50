"""The exception tree of ``ringtrue.agent.audit``.

::

    RingtrueError                (ringtrue.streaming.errors)
    └── AuditError
        ├── LogBrokenError       what is on disk is not what was written
        ├── LogBusyError         every place for a log is taken by a running process
        ├── WitnessError         the witness did not take a checkpoint
        └── NoSuchCallError      no entry of that call
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class AuditError(RingtrueError):
    """Something about the audit log."""


class LogBrokenError(AuditError):
    """What is on disk is not what was written: altered, cut, or signed by an unknown key."""


class LogBusyError(AuditError):
    """Every place for a log is taken by a running process."""


class WitnessError(AuditError):
    """The witness did not take a checkpoint."""


class NoSuchCallError(AuditError):
    """No log here holds an entry of that call."""
