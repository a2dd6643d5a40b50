"""The streams a user agent hears: framing, pings, and the bounds on both."""

from __future__ import annotations

from collections.abc import Callable

from ringtrue.telephony.sip.core import Core
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.stream import PING, PONG, StreamFramer
from ringtrue.telephony.sip.transport import Hop


class _Stream:
    """One stream; closed where a message it began does not end in time."""

    def __init__(self, hop: Hop, core: Core) -> None:
        self.hop = hop
        self.framer = StreamFramer()
        self.broken = False
        self._core = core
        self._deadline: float | None = None

    def watch(self, now: float) -> None:
        """Start, keep or stop the clock of a partial message."""
        if not self.framer.partial or self.broken:
            self._deadline = None
        elif self._deadline is None:
            self._deadline = now + self._core.policy.partial_limit
            self._core.schedule.track(self)

    def whole(self) -> None:
        """A message was completed: the next one has its own time."""
        self._deadline = None

    def next_timer(self) -> float | None:
        return self._deadline

    def handle_timer(self, now: float) -> None:
        self._deadline = None
        self.broken = True
        self._core.close_stream(self.hop)


class Streams:
    """Open streams by hop. One over ``policy.max_streams`` is closed unheard."""

    def __init__(
        self,
        core: Core,
        on_message: Callable[[bytes, Hop, float], None],
        on_error: Callable[[SipParseError, Hop], None],
    ) -> None:
        """``on_message`` gets whole messages, ``on_error`` what ended a stream."""
        self._core = core
        self._on_message = on_message
        self._on_error = on_error
        self._streams: dict[Hop, _Stream] = {}
        self._pinged: dict[Hop, Callable[[bool], None]] = {}

    def __len__(self) -> int:
        """Streams held."""
        return len(self._streams)

    def __contains__(self, hop: Hop) -> bool:
        """Whether the stream has been heard and is open."""
        stream = self._streams.get(hop)
        return stream is not None and not stream.broken

    def expect_pong(self, hop: Hop, heard: Callable[[bool], None]) -> None:
        """A ping was sent: call ``heard`` with whether it is the pong when anything comes."""
        self._pinged[hop] = heard

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """Take the stream's next bytes."""
        stream = self._streams.get(source)
        if stream is None:
            if len(self._streams) >= self._core.policy.max_streams:
                self._core.close_stream(source)
                return
            stream = self._streams[source] = _Stream(source, self._core)
        if stream.broken:
            return
        stream.framer.feed(data)
        heard = self._pinged.get(source)
        if heard is not None:
            pong = stream.framer.take_pong()
            if pong:
                del self._pinged[source]
            heard(pong)
        try:
            while (message := stream.framer.next()) is not None:
                stream.whole()
                if message == PING:
                    self._core.send(PONG, source)
                else:
                    self._on_message(message, source, now)
        except SipParseError as error:
            stream.broken = True
            self._on_error(error, source)
            self._core.close_stream(source)
        stream.watch(now)

    def forget(self, hop: Hop) -> None:
        """The stream is closed."""
        self._pinged.pop(hop, None)
        stream = self._streams.pop(hop, None)
        if stream is not None:
            stream.broken = True
