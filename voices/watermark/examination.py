"""Searches a whole file, and the same as a job for a process of its own."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.errors import CloningError
from ringtrue.voices.watermark.audio import AudioFile
from ringtrue.voices.watermark.detector import MarkOrDetectionKey, Search
from ringtrue.voices.watermark.errors import AudioFileError
from ringtrue.voices.watermark.keys import DetectionKey, MarkKey
from ringtrue.voices.watermark.report import Report

JOB: Final = "ringtrue.voices.watermark.examination:run"
"""For a :class:`~ringtrue.voices.pool.JobPool`."""

_LENGTH: Final = struct.Struct("<I")


def examine(
    source: Path | BinaryIO,
    keys: Sequence[MarkOrDetectionKey],
    *,
    thorough: bool = False,
    longest: float | None = None,
    on_progress: Callable[[float | None], None] = lambda done: None,
) -> Report:
    """Search every channel of an audio file; blocking, in memory that its length doesn't change.

    ``on_progress`` gets the share done, None where the file doesn't say how long it is. Raises
    :class:`~ringtrue.voices.watermark.errors.AudioFileError`, also for more than ``longest``
    seconds.
    """
    with AudioFile(source) as audio:
        total = audio.seconds
        if longest is not None and total is not None and total > longest:
            raise _too_long(longest)
        first = Search(keys, audio.rate, thorough=thorough)
        searches = [first]
        while len(searches) < audio.channels:
            searches.append(Search(keys, audio.rate, thorough=thorough, beside=first))
        heard = 0
        for block in audio.blocks():
            heard += block.shape[1]
            if longest is not None and heard > longest * audio.rate:
                raise _too_long(longest)
            for search, samples in zip(searches, block, strict=True):
                search.feed(samples)
            on_progress(min(1.0, heard / audio.rate / total) if total else None)
        if not heard:
            raise AudioFileError("the file holds no sound")
        return Report.of(
            [search.finish() for search in searches],
            thorough=thorough,
            rate=audio.rate,
            codec=audio.codec,
        )


def encode_request(
    data: bytes, keys: Sequence[MarkOrDetectionKey], *, thorough: bool, longest: float
) -> bytes:
    """A request to :func:`run`."""
    head = {
        "keys": [
            ["mark", base64.b64encode(key.secret).decode()]
            if isinstance(key, MarkKey)
            else ["detection", base64.b64encode(key.key).decode()]
            for key in keys
        ],
        "thorough": thorough,
        "longest": longest,
    }
    encoded = json.dumps(head).encode()
    return _LENGTH.pack(len(encoded)) + encoded + data


def run(request: bytes, on_progress: OnProgress) -> bytes:
    """The job: an encoded request in, a report's JSON out.

    Raises :class:`~ringtrue.voices.errors.CloningError`, as jobs do, where the file won't do.
    """
    (size,) = _LENGTH.unpack_from(request)
    head = json.loads(request[_LENGTH.size : _LENGTH.size + size])
    keys: list[MarkOrDetectionKey] = [
        MarkKey(base64.b64decode(value))
        if kind == "mark"
        else DetectionKey(base64.b64decode(value))
        for kind, value in head["keys"]
    ]

    def told(done: float | None) -> None:
        on_progress(Progress(0.0 if done is None else done, "searching the recording"))

    try:
        report = examine(
            io.BytesIO(request[_LENGTH.size + size :]),
            keys,
            thorough=head["thorough"],
            longest=head["longest"],
            on_progress=told,
        )
    except AudioFileError as error:
        raise CloningError(str(error)) from None
    return report.to_json()


def _too_long(longest: float) -> AudioFileError:
    return AudioFileError(
        f"the recording is longer than {longest / 60:.0f} minutes; `ringtrue watermark detect` "
        "takes any length"
    )
