"""The exception tree of ``ringtrue.voices.watermark``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── WatermarkError             a key, token or signal that can't be used
        └── AudioFileError         a file that holds no audio that can be searched
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class WatermarkError(RingtrueError):
    """A key, token or signal can't be used for watermarking."""


class AudioFileError(WatermarkError):
    """A file holds no audio that can be searched; says why and what is allowed."""
