"""What a leg heard in one tick."""

from __future__ import annotations


class Inbound:
    """One 20 ms step of what the caller sent."""

    __slots__ = ("concealed", "digits", "pcm")

    def __init__(self, pcm: bytes, concealed: bool = False, digits: tuple[str, ...] = ()) -> None:
        """``pcm`` is exactly one frame at the leg's rate (comfort silence where nothing came)."""
        self.pcm = pcm
        self.concealed = concealed
        """True where the frame was lost or late and the samples are concealment or silence."""

        self.digits = digits
        """DTMF digits completed in this step, each one of ``0-9*#A-D``."""
