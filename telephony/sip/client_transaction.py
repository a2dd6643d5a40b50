"""Client transactions: INVITE (RFC 3261 §17.1.1 with RFC 6026 §8.4) and the others (§17.1.2)."""

from __future__ import annotations

from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.schedule import Timers
from ringtrue.telephony.sip.transaction import (
    Deliver,
    Fired,
    Input,
    Output,
    Received,
    State,
    TimedOut,
    Transaction,
    Transmit,
    TransportFailed,
    Unreachable,
    client_key,
)


class ClientTransaction(Transaction):
    """Common to both: the request's bytes and what ends it."""

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        """``request`` is complete, its top Via with a fresh branch; it is sent unchanged."""
        super().__init__(request, reliable=reliable, timers=timers)
        self.key = client_key(request)
        self._data = request.encode()
        self._interval = timers.t1

    def _failed(self, given: Input) -> list[Output]:
        """Timer B or F, or the transport: tell the user and end."""
        self._terminate()
        return [TimedOut(given.timer) if isinstance(given, Fired) else Unreachable()]

    def _resend(self, timer: str, now: float, *, longest: float) -> list[Output]:
        """Send again and set ``timer`` to twice the interval, at most ``longest``."""
        self._interval = min(2 * self._interval, longest)
        self._deadlines[timer] = now + self._interval
        return [Transmit(self._data)]


class InviteClientTransaction(ClientTransaction):
    """Calling → Proceeding → Accepted or Completed → Terminated."""

    def start(self, now: float) -> list[Output]:
        """Send the INVITE."""
        timers = {"B": now + self.timers.timeout}
        if not self.reliable:
            timers["A"] = now + self.timers.t1
        self._enter(State.CALLING, self._calling, **timers)
        return [Transmit(self._data)]

    def _calling(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response):
                return self._response(response, now)
            case Fired("A"):
                return self._resend("A", now, longest=float("inf"))
            case Fired("B") | TransportFailed():
                return self._failed(given)
        return []

    def _proceeding(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response):
                return self._response(response, now)
            case TransportFailed():
                return self._failed(given)
        return []

    def _accepted(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response) if response.success:
                return [Deliver(response)]
            case Fired("M"):
                self._terminate()
        return []

    def _completed(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response) if response.status >= 300:
                return [Transmit(self._ack(response))]
            case Fired("D"):
                self._terminate()
            case TransportFailed():
                return self._failed(given)
        return []

    def _response(self, response: Response, now: float) -> list[Output]:
        if response.provisional:
            if self.state is State.CALLING:
                self._enter(State.PROCEEDING, self._proceeding)
            return [Deliver(response)]
        if response.success:
            self._enter(State.ACCEPTED, self._accepted, M=now + self.timers.timeout)
            return [Deliver(response)]
        if self.reliable:
            self._terminate()
        else:
            self._enter(State.COMPLETED, self._completed, D=now + self.timers.d)
        return [Transmit(self._ack(response)), Deliver(response)]

    def _ack(self, response: Response) -> bytes:
        """ACK to a non-2xx: the INVITE's own headers, the response's To (§17.1.1.3)."""
        source = self.request.headers
        headers = Headers([("via", str(self.request.via))])
        for value in source.get_all("route"):
            headers.add("route", value)
        headers.add("max-forwards", "70")
        headers.add("from", source.get("from") or "")
        headers.add("to", response.headers.get("to") or "")
        headers.add("call-id", self.request.call_id)
        headers.add("cseq", f"{self.request.cseq} ACK")
        return Request(method="ACK", uri=self.request.uri, headers=headers).encode()


class NonInviteClientTransaction(ClientTransaction):
    """Trying → Proceeding → Completed → Terminated."""

    def start(self, now: float) -> list[Output]:
        """Send the request."""
        timers = {"F": now + self.timers.timeout}
        if not self.reliable:
            timers["E"] = now + self.timers.t1
        self._enter(State.TRYING, self._trying, **timers)
        return [Transmit(self._data)]

    def _trying(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response):
                return self._response(response, now)
            case Fired("E"):
                return self._resend("E", now, longest=self.timers.t2)
            case Fired("F") | TransportFailed():
                return self._failed(given)
        return []

    def _proceeding(self, given: Input, now: float) -> list[Output]:
        match given:
            case Received(Response() as response):
                return self._response(response, now)
            case Fired("E"):
                self._interval = self.timers.t2
                return self._resend("E", now, longest=self.timers.t2)
            case Fired("F") | TransportFailed():
                return self._failed(given)
        return []

    def _completed(self, given: Input, now: float) -> list[Output]:
        if given == Fired("K"):
            self._terminate()
        return []

    def _response(self, response: Response, now: float) -> list[Output]:
        if response.provisional:
            self.state, self._step = State.PROCEEDING, self._proceeding
        elif self.reliable:
            self._terminate()
        else:
            self._enter(State.COMPLETED, self._completed, K=now + self.timers.t4)
        return [Deliver(response)]
