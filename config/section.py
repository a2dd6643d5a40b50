"""What sections of the settings are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def split_list(value: object) -> object:
    """Let a list be written ``a,b`` in an environment variable."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
