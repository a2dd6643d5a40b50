"""Recordings as ``multipart/form-data`` (RFC 7578), read into memory and never onto a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ringtrue.agent.problems import Problem, wrong
from ringtrue.voices.enrolment.recording import MAX_BYTES

MAX_BODY: Final = 2 * MAX_BYTES + 64 * 1024
"""Bytes of a whole request."""

MAX_TOKEN: Final = 256

_LIMITS: Final = {"token": MAX_TOKEN, "statement": MAX_BYTES, "speech": MAX_BYTES}
_OVERHEAD: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Recordings:
    """What was uploaded."""

    token: str = field(repr=False)
    statement: bytes = field(repr=False)
    speech: bytes = field(repr=False)
    """Empty where none is needed."""


async def read_recordings(
    content_type: str, body: AsyncIterator[bytes], *, speech: bool
) -> Recordings:
    """The parts ``token`` and ``statement``, and ``speech`` where it is asked for.

    Raises :class:`~ringtrue.agent.problems.Problem`: 415 for another content type, 413 for more
    bytes than allowed, 400 for what is no form, 422 for a part that is missing or too much.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(
            415,
            "unsupported-media-type",
            f"Content-Type is {content_type[:80]!r}; allowed: multipart/form-data with a boundary",
            headers={"Accept": "multipart/form-data"},
        )
    names = ("token", "statement", "speech") if speech else ("token", "statement")
    form = _Form(names)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_field,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_finished,
                "on_part_data": form.data,
            },
        )
        size = 0
        async for chunk in body:
            size += len(chunk)
            if size > MAX_BODY:
                raise too_large(MAX_BODY)
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise Problem(400, "malformed", "the body is not multipart/form-data") from None
    for name in names:
        if not form.parts.get(name):
            raise wrong(name, None, "a part of this name, not empty")
    return Recordings(
        form.parts["token"].decode("ascii", "replace").strip(),
        bytes(form.parts["statement"]),
        bytes(form.parts["speech"]) if speech else b"",
    )


def too_large(limit: int) -> Problem:
    """A body of more than ``limit`` bytes."""
    return Problem(413, "too-large", f"the body is larger than {limit} bytes", limit=limit)


class _Form:
    """Collects the parts that are asked for; others are refused, not skipped."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.parts: dict[str, bytearray] = {}
        self._names = names
        self._headers: dict[bytes, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._part = bytearray()
        self._limit = 0
        self._current = ""

    def begin(self) -> None:
        self._headers = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._bounded()

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded()

    def header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def headers_finished(self) -> None:
        name = _field_name(self._headers)
        if name not in self._names or name in self.parts:
            raise wrong(name or "part", None, f"each of these parts once: {', '.join(self._names)}")
        self._current, self._limit = name, _LIMITS[name]
        self._part = self.parts[name] = bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        if len(self._part) + end - start > self._limit:
            raise Problem(
                413,
                "too-large",
                f"{self._current} is larger than {self._limit} bytes",
                errors=[
                    {
                        "field": self._current,
                        "value": None,
                        "allowed": f"at most {self._limit} bytes",
                    }
                ],
            )
        self._part += memoryview(data)[start:end]

    def _bounded(self) -> None:
        if len(self._name) + len(self._value) > _OVERHEAD:
            raise Problem(400, "malformed", "a part's header is too long")


def _field_name(headers: Mapping[bytes, bytes]) -> str:
    _, options = parse_options_header(headers.get(b"content-disposition", b""))
    return options.get(b"name", b"").decode("utf-8", "replace")[:80]
