"""The recognizer worker process: ``python -m ringtrue.streaming.recognizers.worker``.

PocketSphinx holds Python's interpreter lock while it decodes, so a thread would stop the event
loop; a process does not. Messages (:mod:`.wire`) come in on stdin and go out on stdout. The end
of stdin ends the process, so a worker never outlives its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Final, TypeVar

from ringtrue.streaming.freed import give_back_freed
from ringtrue.streaming.recognizers.decoding import DecoderSet, Utterance
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.wire import Kind, Message, MessageReader

_READ_BYTES: Final = 1 << 18
_PROGRESS_SECONDS: Final = 0.12
"""Audio decoded between two looks at the partial text: a look costs as much as 10 ms of audio."""

_SETTLE_SECONDS: Final = 60.0
"""Between two looks for decoders that were not needed meanwhile."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Open:
    utterance: Utterance
    rate: int
    audio: deque[bytes] = field(default_factory=deque)
    finishing: bool = False
    samples: int = 0
    reported: int = 0


class Worker:
    """Serves many utterances in one thread, those waiting for their end first."""

    def __init__(self, output: int) -> None:
        """Write replies to the file descriptor ``output``."""
        self._output = output
        self._grammars: dict[str, DecoderSet] = {}
        self._open: dict[int, _Open] = {}
        self._turn: deque[int] = deque()
        self._settled = time.monotonic()

    def run(self, source: int) -> None:
        """Serve until ``source`` ends."""
        reader = MessageReader()
        while True:
            short = None if self._open else self._short()
            timeout = 0.0 if self._turn or short is not None else None
            if select.select([source], [], [], timeout)[0]:
                data = os.read(source, _READ_BYTES)
                if not data:
                    break
                for message in reader.feed(data):
                    self._receive(message)
                self._settle()
            elif short is not None:
                short.make_one()
            else:
                self._step()
        for grammar in self._grammars.values():
            grammar.close()

    def _short(self) -> DecoderSet | None:
        """Whose decoders are too few: they are made while nobody speaks."""
        return next((found for found in self._grammars.values() if found.short), None)

    def _settle(self) -> None:
        """Once in a while, let decoders go that were not needed, and give freed memory back."""
        now = time.monotonic()
        if now - self._settled < _SETTLE_SECONDS:
            return
        self._settled = now
        for found in self._grammars.values():
            found.settle(self._busy(found))
        give_back_freed()

    def _busy(self, decoders: DecoderSet) -> int:
        return sum(each.utterance.decoders is decoders for each in self._open.values())

    def _receive(self, message: Message) -> None:
        if message.kind is Kind.LOAD:
            self._load(message)
        elif message.kind is Kind.START:
            self._guarded(message.utterance, self._start, message)
        elif message.kind is Kind.CANCEL:
            self._cancel(message.utterance)
        elif message.kind is Kind.PING:
            self._send(Kind.PONG, message.utterance, b"")
        elif (opened := self._open.get(message.utterance)) is not None:
            if message.kind is Kind.AUDIO:
                opened.audio.append(message.payload)
            elif message.kind is Kind.FINISH:
                opened.finishing = True
            if message.utterance not in self._turn:
                self._turn.append(message.utterance)

    def _load(self, message: Message) -> None:
        try:
            grammar = Grammar.from_json(message.payload.decode())
            decoders = self._grammars.get(grammar.key)
            if decoders is None:
                decoders = self._grammars[grammar.key] = DecoderSet(grammar)
            reply = asdict(decoders.report)
        except Exception as error:  # the parent decides; the worker must go on for other agents
            reply = {"error": f"{error}"}
        self._send(Kind.LOADED, message.utterance, json.dumps(reply).encode())

    def _start(self, message: Message) -> None:
        asked = json.loads(message.payload)
        decoders = self._grammars[asked["grammar"]]
        utterance = Utterance(decoders, asked["rate"], asked["mirror"], asked["cmn"])
        self._open[message.utterance] = _Open(utterance, asked["rate"])
        decoders.busy(self._busy(decoders))

    def _cancel(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if number in self._turn:
            self._turn.remove(number)
        if opened is not None:
            opened.utterance.cancel()

    def _step(self) -> None:
        """One block of one utterance: of a finishing one if there is any, else in turn."""
        number = next((n for n in self._turn if self._open[n].finishing), self._turn[0])
        self._turn.remove(number)
        self._guarded(number, self._work, number)

    def _work(self, number: int) -> None:
        opened = self._open[number]
        if opened.audio:
            block = opened.audio.popleft()
            opened.utterance.feed(block)
            opened.samples += len(block) // 2
            if opened.samples - opened.reported >= _PROGRESS_SECONDS * opened.rate:
                opened.utterance.update()
                opened.reported = opened.samples
                payload = struct.pack("<I", opened.samples) + opened.utterance.partial.encode()
                self._send(Kind.PROGRESS, number, payload)
        elif opened.finishing:
            final = opened.utterance.finish()
            del self._open[number]
            self._send(Kind.FINAL, number, final.encode())
            return
        if opened.audio or opened.finishing:
            self._turn.append(number)

    def _guarded(self, number: int, call: Callable[[_T], None], argument: _T) -> None:
        try:
            call(argument)
        except Exception as error:
            self._open.pop(number, None)
            self._send(Kind.FAILED, number, f"{type(error).__name__}: {error}".encode())

    def _send(self, kind: Kind, utterance: int, payload: bytes) -> None:
        data = memoryview(Message(kind, utterance, payload).encode())
        while data:
            data = data[os.write(self._output, data) :]


def main() -> None:
    """Entry point of the process."""
    # A terminal's interrupt and a service manager's stop reach every process of the group, but
    # calls in progress still need to be understood: the parent ends its pipe when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    output = os.dup(1)
    os.dup2(2, 1)
    Worker(output).run(0)


if __name__ == "__main__":
    main()
