"""libopus through ctypes.

PyAV's own binding of it can neither conceal a lost packet nor read the copy of it that the next
packet carries (RFC 6716 §2.1.7), so the library is called directly: the copy in PyAV's wheel, or
else the system's. The calls keep the interpreter lock: they take some tens of microseconds, and
to give it up between two of them could cost the media clock a whole switch interval.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

import av

from ringtrue.streaming.errors import RingtrueError

_BUNDLED: Final = "libopus*.so*"
_SYSTEM: Final = "libopus.so.0"


class CodecUnavailableError(RingtrueError):
    """A codec's library can't be loaded; the text says which, and what to install."""


class OpusLibrary:
    """The functions used of libopus (opus.h, 1.1 or later)."""

    def __init__(self, path: str) -> None:
        """Load ``path``. Raises ``OSError`` or ``AttributeError`` where it is not libopus."""
        library = ctypes.PyDLL(path)

        def function(name: str, result: Any, *arguments: Any) -> Any:
            bound = library[name]
            bound.restype = result
            bound.argtypes = list(arguments)
            return bound

        samples = POINTER(c_int16)
        self.encoder_create = function(
            "opus_encoder_create", c_void_p, c_int32, c_int, c_int, POINTER(c_int)
        )
        self.encoder_destroy = function("opus_encoder_destroy", None, c_void_p)
        # variadic: the arguments after these are passed as C ints, which is what they are
        self.encoder_ctl = function("opus_encoder_ctl", c_int, c_void_p, c_int)
        self.encode = function("opus_encode", c_int32, c_void_p, c_char_p, c_int, c_char_p, c_int32)
        self.decoder_create = function(
            "opus_decoder_create", c_void_p, c_int32, c_int, POINTER(c_int)
        )
        self.decoder_destroy = function("opus_decoder_destroy", None, c_void_p)
        self.decode = function(
            "opus_decode", c_int, c_void_p, c_char_p, c_int32, samples, c_int, c_int
        )
        self.version = function("opus_get_version_string", c_char_p)().decode()


@cache
def opus_library() -> OpusLibrary:
    """The library, loaded once.

    Raises :class:`CodecUnavailableError` where there is none.
    """
    beside = Path(av.__file__).resolve().parent.parent / "av.libs"
    reasons = []
    for path in [*map(str, sorted(beside.glob(_BUNDLED))), _SYSTEM]:
        try:
            return OpusLibrary(path)
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    raise CodecUnavailableError(
        f"can't load libopus ({'; '.join(reasons)}); install Debian's package libopus0, "
        "or leave opus out of sip.codecs"
    )
