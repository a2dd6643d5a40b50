"""Server transactions: INVITE (RFC 3261 §17.2.1 with RFC 6026 §8.7) and the others (§17.2.2)."""

from __future__ import annotations

from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.schedule import Timers
from ringtrue.telephony.sip.transaction import (
    Deliver,
    Fired,
    Input,
    Output,
    Received,
    Respond,
    State,
    TimedOut,
    Transaction,
    Transmit,
    TransportFailed,
    Unreachable,
    server_key,
)


class ServerTransaction(Transaction):
    """Common to both: the last response, sent again when the request comes again."""

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        """``request`` is the one that created it, its top Via already with ``received``."""
        super().__init__(request, reliable=reliable, timers=timers)
        self.key = server_key(request)
        self._data: bytes | None = None

    def _again(self) -> list[Output]:
        return [] if self._data is None else [Transmit(self._data)]

    def _send(self, response: Response) -> list[Output]:
        self._data = response.encode()
        return [Transmit(self._data)]

    def _failed(self) -> list[Output]:
        self._terminate()
        return [Unreachable()]


class InviteServerTransaction(ServerTransaction):
    """Proceeding → Accepted, or Completed → Confirmed → Terminated."""

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        """Starts in Proceeding; the user sends 100 Trying."""
        super().__init__(request, reliable=reliable, timers=timers)
        self._interval = timers.t1
        self._enter(State.PROCEEDING, self._proceeding)

    def _proceeding(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Request(method="INVITE")):
                return self._again()
            case Respond(response):
                if response.success:
                    self._enter(State.ACCEPTED, self._accepted, L=now + self.timers.timeout)
                elif not response.provisional:
                    timers = {"H": now + self.timers.timeout}
                    if not self.reliable:
                        timers["G"] = now + self.timers.t1
                    self._enter(State.COMPLETED, self._completed, **timers)
                return self._send(response)
            case TransportFailed():
                return self._failed()
        return []

    def _accepted(self, given: Input, now: float) -> list[Output]:
        """The user sends its 2xx again itself; ACKs are the user's (RFC 6026 §7.1)."""
        match given:
            case Received(Request(method="ACK") as ack):
                return [Deliver(ack)]
            case Respond(response) if response.success:
                return self._send(response)
            case TransportFailed():
                return [Unreachable()]
            case Fired("L"):
                self._terminate()
        return []

    def _completed(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Request(method="INVITE")):
                return self._again()
            case Received(Request(method="ACK")):
                if self.reliable:
                    self._terminate()
                else:
                    self._enter(State.CONFIRMED, self._confirmed, I=now + self.timers.t4)
            case Fired("G"):
                self._interval = min(2 * self._interval, self.timers.t2)
                self._deadlines["G"] = now + self._interval
                return self._again()
            case Fired("H"):
                self._terminate()
                return [TimedOut("H")]
            case TransportFailed():
                return self._failed()
        return []

    def _confirmed(self, given: Input, now: float) -> list[Output]:
        if given == Fired("I"):
            self._terminate()
        return []


class NonInviteServerTransaction(ServerTransaction):
    """Trying → Proceeding → Completed → Terminated."""

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        """Starts in Trying."""
        super().__init__(request, reliable=reliable, timers=timers)
        self._enter(State.TRYING, self._trying)

    def _trying(self, given: Input, now: float) -> list[Output]:
        match given:
            case Respond(response):
                return self._respond(response, now)
            case TransportFailed():
                return self._failed()
        return []

    def _proceeding(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Request()):
                return self._again()
            case Respond(response):
                return self._respond(response, now)
            case TransportFailed():
                return self._failed()
        return []

    def _completed(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Request()):
                return self._again()
            case TransportFailed():
                return self._failed()
            case Fired("J"):
                self._terminate()
        return []

    def _respond(self, response: Response, now: float) -> list[Output]:
        if response.provisional:
            self._enter(State.PROCEEDING, self._proceeding)
        elif self.reliable:
            self._terminate()
        else:
            self._enter(State.COMPLETED, self._completed, J=now + self.timers.timeout)
        return self._send(response)
