"""Finding, loading and checking Debian's Flite 2.2 libraries.

Two kinds of binding are used on purpose. What computes (``flite_synth_text``, ``mlpg``) releases
the interpreter lock. What only reads a field keeps it: giving the lock up a hundred times a
phrase would cost up to a switch interval each time while other threads are busy.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int, c_void_p
from pathlib import Path
from typing import Any, Final

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.flite.structs import (
    AudioStreamingInfo,
    AudioStreamingInfoPointer,
    ClustergenDb,
    ClustergenDbPointer,
    TrackPointer,
    UtterancePointer,
    Voice,
    VoicePointer,
)

VOICES: Final = ("slt", "awb", "rms")
"""Clustergen voices: US English female, Scottish-accented male, US English male."""

VERSION: Final = "2.2"
SAMPLE_RATE: Final = 16000
FRAME_SECONDS: Final = 0.005

_DEPENDENCY: Final = "libasound.so.2"
_CORE: Final = "libflite.so.1"
_LANGUAGE: Final = ("libflite_usenglish.so.1", "libflite_cmulex.so.1")
_HINT: Final = "install Debian's package libflite1 (2.2) or name the directory it is unpacked in"


class Flite:
    """The loaded libraries. The C side is process-wide; many instances may coexist."""

    def __init__(self, library_dir: Path | None = None, search: Sequence[Path] = ()) -> None:
        """Load the core and English from ``library_dir``, else from ``search``, else the system.

        ``library_dir`` is the directory that holds ``libflite.so.1``; when given, nothing else is
        tried. Directories in ``search`` without that file are passed over. Raises
        :class:`~ringtrue.voices.errors.EngineUnavailableError` if the libraries are missing or
        aren't version 2.2.
        """
        self.directory = _directory(library_dir, search)
        if self.directory is not None and (self.directory / _DEPENDENCY).exists():
            self._open(_DEPENDENCY)
        core = self._open(_CORE)
        for name in _LANGUAGE:
            self._open(name)
        self.version = _version(core)
        if self.version != VERSION:
            raise EngineUnavailableError(
                f"libflite is version {self.version}, but only {VERSION} is known to fit; {_HINT}"
            )
        path = self._path(_CORE)
        self._bind(core, ctypes.PyDLL(path))
        core.flite_init()

    def _path(self, name: str) -> str:
        return name if self.directory is None else str(self.directory / name)

    def _open(self, name: str) -> ctypes.CDLL:
        try:
            return ctypes.CDLL(self._path(name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EngineUnavailableError(f"can't load {name}: {error}; {_HINT}") from error

    def _bind(self, core: ctypes.CDLL, light: ctypes.PyDLL) -> None:
        def function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
            try:
                bound = library[name]
            except AttributeError as error:
                raise EngineUnavailableError(f"libflite lacks {name}; {_HINT}") from error
            bound.restype = result
            bound.argtypes = list(arguments)
            return bound

        self.synth_text = function(
            core, "flite_synth_text", UtterancePointer, c_char_p, VoicePointer
        )
        self.mlpg = function(core, "mlpg", TrackPointer, TrackPointer, ClustergenDbPointer)
        self.delete_utterance = function(core, "delete_utterance", None, UtterancePointer)
        self.delete_track = function(core, "delete_track", None, TrackPointer)
        self.feat_val = function(light, "feat_val", c_void_p, c_void_p, c_char_p)
        self.feat_present = function(light, "feat_present", c_int, c_void_p, c_char_p)
        self.feat_set = function(light, "feat_set", None, c_void_p, c_char_p, c_void_p)
        self.val_track = function(light, "val_track", TrackPointer, c_void_p)
        self.val_cg_db = function(light, "val_cg_db", ClustergenDbPointer, c_void_p)
        self.utt_relation = function(light, "utt_relation", c_void_p, UtterancePointer, c_char_p)
        self.relation_head = function(light, "relation_head", c_void_p, c_void_p)
        self.item_next = function(light, "item_next", c_void_p, c_void_p)
        self.item_feat_string = function(light, "item_feat_string", c_char_p, c_void_p, c_char_p)
        self.item_feat_float = function(light, "item_feat_float", c_float, c_void_p, c_char_p)
        self.ffeature_float = function(light, "flite_ffeature_float", c_float, c_void_p, c_char_p)
        self.new_streaming_info = function(
            light, "new_audio_streaming_info", AudioStreamingInfoPointer
        )
        self.streaming_info_val = function(
            light, "audio_streaming_info_val", c_void_p, AudioStreamingInfoPointer
        )

    def voice(self, name: str) -> tuple[ctypes._Pointer[Voice], ClustergenDb]:
        """Register voice ``name`` and return it with its clustergen database, both checked.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` if its library is missing
        or its database isn't laid out as 2.2's.
        """
        library = self._open(f"libflite_cmu_us_{name}.so.1")
        register = library[f"register_cmu_us_{name}"]
        register.restype = VoicePointer
        register.argtypes = [c_char_p]
        voice = register(None)
        database = self.val_cg_db(self.feat_val(voice.contents.features, b"cg_db")).contents
        _check_database(name, database)
        self._silence(voice.contents)
        return voice, database

    def _silence(self, voice: Voice) -> None:
        """Have the voice stop at its first piece of audio: its parameters are what we want.

        Any non-zero answer stops it. The callback is a C function that ignores its arguments and
        returns one, so that synthesis never waits for the interpreter lock.
        """
        if self.feat_present(voice.features, b"streaming_info"):
            return
        info: ctypes._Pointer[AudioStreamingInfo] = self.new_streaming_info()
        info.contents.min_buffsize = 1
        nonzero = ctypes.CDLL(None).getpid
        info.contents.asc = ctypes.cast(nonzero, c_void_p).value
        self.feat_set(voice.features, b"streaming_info", self.streaming_info_val(info))


def _directory(library_dir: Path | None, search: Sequence[Path]) -> Path | None:
    if library_dir is not None:
        if not (library_dir / _CORE).exists():
            raise EngineUnavailableError(f"{library_dir} holds no {_CORE}; {_HINT}")
        return library_dir
    return next((place for place in search if (place / _CORE).exists()), None)


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("dli_fname", c_char_p),
        ("dli_fbase", c_void_p),
        ("dli_sname", c_char_p),
        ("dli_saddr", c_void_p),
    )


def _version(core: ctypes.CDLL) -> str:
    """The version in the file name that ``libflite.so.1`` points at, by ``dladdr``."""
    info = _DlInfo()
    dladdr = ctypes.CDLL(None).dladdr
    dladdr.argtypes = [c_void_p, ctypes.POINTER(_DlInfo)]
    if not dladdr(ctypes.cast(core.flite_init, c_void_p), ctypes.byref(info)):
        return "unknown"
    target = os.path.realpath(os.fsdecode(info.dli_fname or b""))
    return Path(target).name.partition(".so.")[2] or "unknown"


def _check_database(name: str, database: ClustergenDb) -> None:
    expected: dict[str, tuple[object, object]] = {
        "sample_rate": (database.sample_rate, SAMPLE_RATE),
        "frame_advance": (round(database.frame_advance, 6), FRAME_SECONDS),
        "do_mlpg": (database.do_mlpg, 1),
        "mixed_excitation": (database.mixed_excitation, 1),
        "ME_num": (database.ME_num, 5),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise EngineUnavailableError(
                f"voice {name}: clustergen database has {field}={found!r}, expected {wanted!r}; "
                f"this libflite isn't laid out as {VERSION}. {_HINT}"
            )
    if not (0.3 < database.mlsa_alpha < 0.6 and math.isfinite(database.gain)):
        raise EngineUnavailableError(
            f"voice {name}: frequency warping {database.mlsa_alpha!r} is out of 0.3..0.6. {_HINT}"
        )
