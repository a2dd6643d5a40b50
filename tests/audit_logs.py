"""Audit logs for tests: written by the real writer, with a clock that is turned by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.segments import segments_of
from ringtrue.agent.audit.texts import TextKeeper, TextPolicy
from ringtrue.agent.audit.writer import LogWriter, Pending, WriterPolicy
from ringtrue.voices.keys.signing import Signer

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SIGNER = Signer.generate()
SECRET = bytes(range(32))
TEXTS = TextKeeper(SECRET)
KEYS = [SIGNER.public]


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def texts(policy: TextPolicy) -> TextKeeper:
    return TextKeeper(SECRET, policy)


def said(number: int, call: str = "call-1") -> Event:
    return Event(Kind.UTTERANCE, tenant="default", call=call, text=f"word {number}")


def opened(directory: Path, seconds: float = 0, **options: object) -> LogWriter:
    return LogWriter.open(directory, SIGNER, TEXTS, moment(seconds), **options)  # type: ignore[arg-type]


def add(writer: LogWriter, events: Sequence[Event], seconds: float, *, sign: bool = False) -> None:
    now = moment(seconds)
    writer.append([Pending(event, now) for event in events], now, sign=sign)


def write_log(
    directory: Path, *, entries: int = 20, segments: int = 3, closed: bool = True
) -> None:
    """A log of some segments, each with checkpoints inside."""
    writer = opened(directory, policy=WriterPolicy(checkpoint_entries=3, checkpoint_seconds=1e6))
    for number in range(entries):
        add(writer, [said(number)], number)
        if segments > 1 and number and number % (entries // segments) == 0:
            writer.rotate(moment(number))
    if closed:
        writer.close(moment(entries))
    else:
        writer._release()


def entries(directory: Path, slot: str = "w00") -> list[dict[str, object]]:
    lines = [
        line
        for path in segments_of(directory / slot).values()
        for line in path.read_bytes().splitlines()
    ]
    found = [json.loads(line) for line in lines]
    return [entry for entry in found if "seq" in entry]


def kinds(directory: Path, slot: str = "w00") -> list[object]:
    return [entry["kind"] for entry in entries(directory, slot)]
