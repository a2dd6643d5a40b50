"""The exception tree of ``ringtrue.config``.

::

    ConfigError               something configured can't be used as it stands
    └── SettingsError         one or more settings are wrong; all of them are listed
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class ConfigError(Exception):
    """Something configured can't be used as it stands."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting."""

    key: str
    """Dotted path, e.g. ``sip.port``; empty for the document itself."""

    message: str
    """What is wrong, with the value (secrets masked) and what is allowed."""

    source: str
    """Where the value came from: a file, an environment variable, or the shipped defaults."""

    def __str__(self) -> str:
        """One line, as :class:`SettingsError` prints it."""
        return f"{self.key + ': ' if self.key else ''}{self.message} [{self.source}]"


class SettingsError(ConfigError):
    """One or more settings are wrong."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep ``problems`` and print each on a line of its own."""
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 setting is wrong" if count == 1 else f"{count} settings are wrong"
        super().__init__("\n  ".join([f"{head}:", *map(str, self.problems)]))
