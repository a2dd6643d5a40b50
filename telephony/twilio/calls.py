"""Twilio calls: the beginning of a stream, and the call it carries.

Closing the websocket ends the stream, and Twilio goes on with the TwiML after ``<Connect>``, which
hangs up.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ringtrue.streaming.ports import Direction
from ringtrue.telephony.media_streams.calls import StreamCall, StreamSocket
from ringtrue.telephony.twilio.leg import TwilioLeg
from ringtrue.telephony.twilio.protocol import MediaStreamProtocol, Started, TwilioProtocolError

START_TIMEOUT: Final = 5.0
"""Seconds a websocket may take to say ``start`` before it is closed."""


class TwilioCall(StreamCall):
    """One call."""

    def __init__(
        self,
        socket: StreamSocket,
        protocol: MediaStreamProtocol,
        started: Started,
        *,
        remote: str,
        local: str,
        direction: Direction = Direction.INBOUND,
        agent: str | None = None,
    ) -> None:
        """A stream that has sent ``start`` and shown its token; :meth:`run` drives it.

        Its id is ``twilio-`` and the call's SID, with the end of the stream's.
        """
        leg = TwilioLeg(protocol)
        super().__init__(
            socket,
            leg.wire,
            call_id=f"twilio-{started.call_sid}-{started.stream_sid[-8:]}",
            transport="twilio",
            remote=remote,
            local=local,
            direction=direction,
            agent=agent,
            leg=leg,
        )
        self.sid = started.call_sid
        """Twilio's own id of the call."""


async def handshake(socket: StreamSocket) -> tuple[MediaStreamProtocol, Started]:
    """Read ``connected`` and ``start`` from a new websocket.

    Raises :class:`TwilioProtocolError` if it says anything else first or takes longer than
    5 s, :class:`~ringtrue.telephony.media_streams.calls.SocketClosedError` if it goes away.
    """
    protocol = MediaStreamProtocol()
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                message = await socket.receive()
                if isinstance(message, bytes):
                    raise TwilioProtocolError("binary message; allowed: text")
                event = protocol.receive(message)
                if isinstance(event, Started):
                    return protocol, event
    except TimeoutError as error:
        raise TwilioProtocolError(f"no start within {START_TIMEOUT} s") from error
