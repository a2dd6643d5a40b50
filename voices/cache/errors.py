"""The exceptions of ``ringtrue.voices.cache``.

::

    RingtrueError            (ringtrue.streaming.errors)
    └── CacheError           something about the cache
        ├── RedisUrlError    a Redis URL that can't be used
        ├── RedisLinkError   Redis didn't do what it was asked; never leaves this package
        └── CacheClosedError the cache was closed while somebody waited for it
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class CacheError(RingtrueError):
    """Something about the cache."""


class RedisUrlError(CacheError):
    """The Redis URL can't be used; the message never shows its password."""


class RedisLinkError(CacheError):
    """Redis was not asked, did not answer in time, or answered with an error."""


class CacheClosedError(CacheError):
    """The cache was closed while somebody waited for it."""
