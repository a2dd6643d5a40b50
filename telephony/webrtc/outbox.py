"""Events on their way to the page: bounded, in order, and never in the way of the call."""

from __future__ import annotations

import json
from collections import deque
from typing import Final, Protocol

from ringtrue.telephony.webrtc.events import PageEvent

MAX_EVENTS: Final = 256
MAX_BUFFERED: Final = 128 * 1024
"""Bytes that may wait inside the data channel before events wait here instead."""


class Channel(Protocol):
    """The part of aiortc's ``RTCDataChannel`` used here."""

    @property
    def readyState(self) -> str:
        """``open`` once it can send."""
        ...

    @property
    def bufferedAmount(self) -> int:
        """Bytes queued in it."""
        ...

    def send(self, data: str) -> None:
        """Queue one message."""
        ...


class Outbox:
    """One call's events. Overflow policy: the oldest event is dropped and counted."""

    def __init__(self) -> None:
        """Keep events until a channel is open."""
        self._events: deque[str] = deque()
        self._channel: Channel | None = None
        self.dropped = 0

    def attach(self, channel: Channel | None) -> None:
        """Send over ``channel`` from now on; None: keep events until there is one again."""
        self._channel = channel
        self.flush()

    def put(self, event: PageEvent) -> None:
        """Send ``event`` as soon as the channel takes it. Raises if it is no JSON object."""
        text = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self.dropped += 1
        self._events.append(text)
        self.flush()

    def flush(self) -> None:
        """Hand over what the channel takes."""
        channel = self._channel
        if channel is None:
            return
        while (
            self._events and channel.readyState == "open" and channel.bufferedAmount < MAX_BUFFERED
        ):
            channel.send(self._events.popleft())
