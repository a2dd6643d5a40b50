"""A Pipecat service by name, with settings of its own; secrets in them are held as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from ringtrue.config.problems import is_secret_name
from ringtrue.config.section import Section


class NamedService(Section):
    """A service and its settings."""

    service: Annotated[str, Field(min_length=1)]
    """A short name or an import path."""

    settings: dict[str, Any] = {}
    """Passed to the service; values of secret-sounding keys are held as ``SecretStr``."""

    @field_validator("settings")
    @classmethod
    def _hide(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {key: _hidden(key, item) for key, item in value.items()}

    def revealed(self) -> dict[str, Any]:
        """The settings with secrets as plain strings, for the service's constructor."""
        return {key: _revealed(item) for key, item in self.settings.items()}


def _hidden(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _hidden(str(k), v) for k, v in value.items()}
    if isinstance(value, str) and is_secret_name(key):
        return SecretStr(value)
    return value


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {k: _revealed(v) for k, v in value.items()}
    return value
