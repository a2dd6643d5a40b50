"""The exception tree of ``ringtrue.voices.store``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── StoreError                 something the store won't or can't do
        ├── StoreUrlError          a database URL that can't be used
        ├── SchemaTooNewError      the database was made by a newer version
        ├── StoreUnavailableError  the database can't be reached or is locked
        ├── VoiceNotFoundError     no such voice for this tenant
        │   └── VoiceErasedError   there was one; it was erased
        ├── VoiceExistsError       the tenant has a voice of that name
        ├── BlobNotFoundError      the voice has nothing of that kind
        ├── LifecycleError         a state that can't follow the present one
        │   └── VoiceFrozenError   an incident is open: nothing may be done with the voice
        ├── IncidentNotFoundError  no incident of that id
        ├── ConflictError          somebody else changed it first
        ├── ApiKeyError            a token that opens nothing
        └── ApiKeyNotFoundError    no API key of that id
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class StoreError(RingtrueError):
    """Something the store won't or can't do."""


class StoreUrlError(StoreError):
    """A database URL can't be used."""


class SchemaTooNewError(StoreError):
    """The database was made by a newer version of this program."""


class StoreUnavailableError(StoreError):
    """The database can't be reached, is locked, or refused; trying again may help."""


class VoiceNotFoundError(StoreError):
    """This tenant has no such voice; whether another tenant has is not said."""

    def __init__(self, voice: str) -> None:
        """Name the voice asked for."""
        super().__init__(f"no voice {voice[:80]!r}")
        self.voice = voice


class VoiceErasedError(VoiceNotFoundError):
    """The voice was erased; nothing of it can be read any more."""

    def __init__(self, voice: str) -> None:
        """Name the voice asked for."""
        super().__init__(voice)
        self.args = (f"voice {voice[:80]!r} was erased",)


class VoiceExistsError(StoreError):
    """The tenant has a voice of that name."""


class BlobNotFoundError(StoreError):
    """The voice has nothing of that kind."""


class LifecycleError(StoreError):
    """A state can't follow the present one."""


class VoiceFrozenError(LifecycleError):
    """An incident froze the voice; it has to be lifted first."""

    def __init__(self, voice: str, what: str) -> None:
        """``what`` can't be done."""
        super().__init__(f"voice {voice[:80]!r} is frozen by an incident: {what}")
        self.voice = voice


class IncidentNotFoundError(StoreError):
    """This tenant has no such incident."""

    def __init__(self, incident: str) -> None:
        """Name the incident asked for."""
        super().__init__(f"no incident {incident[:80]!r}")
        self.incident = incident


class ConflictError(StoreError):
    """Somebody else changed it first; read again and decide anew."""


class ApiKeyError(StoreError):
    """The token opens nothing: unknown, expired or revoked; which is not said."""

    def __init__(self) -> None:
        """Say no more than that."""
        super().__init__("the API key is not valid")


class ApiKeyNotFoundError(StoreError):
    """There is no API key of that id."""

    def __init__(self, key_id: str) -> None:
        """Name the id asked for."""
        super().__init__(f"no API key {key_id[:80]!r}")
        self.key_id = key_id
