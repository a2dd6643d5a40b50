"""The exception tree of ``ringtrue.voices.watermark``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── WatermarkError             a key, token or signal that can't be used
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class WatermarkError(RingtrueError):
    """A key, token or signal can't be used for watermarking."""
