"""A far end that takes REFER, on a station of :mod:`sip_link`: the notifier's side of RFC 3515."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sip_link import Station

from ringtrue.telephony.sip.call import Call
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.server_transaction import ServerTransaction


@dataclass(frozen=True)
class News:
    """One NOTIFY."""

    after: float
    """Seconds after the REFER."""

    line: str
    """The fragment's first line, without the version."""

    state: str = "active;expires=60"
    event: str = "refer"


TRYING = News(0.1, "100 Trying")
RINGING = News(0.5, "180 Ringing")


def final(line: str, after: float = 2.0) -> News:
    return News(after, line, "terminated;reason=noresource")


class Transferee:
    """Answers the REFERs of one call, and sends ``news`` of each, one after another."""

    def __init__(
        self, station: Station, call: str, news: Sequence[News] = (), *, status: int = 202
    ) -> None:
        """``call`` is the call's handle at ``station``; ``status`` answers the REFERs."""
        usage = station.ua._calls[call]
        assert isinstance(usage, Call)
        self.call, self.station = usage, station
        self.news, self.status = tuple(news), status
        self.referred: list[Request] = []
        self.answers: list[int] = []
        """What our NOTIFYs were answered with."""

        self._due: list[tuple[float, News]] = []
        self._receive = usage.receive
        examine = station.ua._examine
        station.ua._examine = (  # type: ignore[method-assign]
            lambda request: None if request.method == "REFER" else examine(request)
        )
        usage.receive = self.receive  # type: ignore[method-assign]

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """Take REFER; all else is the call's."""
        if request.method != "REFER":
            self._receive(transaction, request, now)
            return
        assert self.call.dialog.in_order(request)
        self.referred.append(request)
        core = self.station.ua.core
        core.respond(transaction, self.station.ua.response(request, self.status), now)
        if self.status < 300:
            self._due += [(now + news.after, news) for news in self.news]
            core.schedule.track(self)

    def next_timer(self) -> float | None:
        return self._due[0][0] if self._due else None

    def handle_timer(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self.tell(self._due.pop(0)[1], now)

    def tell(self, news: News, now: float) -> None:
        """Send one NOTIFY."""
        request = self.call.dialog.request("NOTIFY")
        for name, value in (
            ("event", news.event),
            ("subscription-state", news.state),
            ("contact", f"<sip:bob@{self.station.hop.host}>"),
            ("content-type", "message/sipfrag;version=2.0"),
        ):
            request.headers.add(name, value)
        request.body = f"SIP/2.0 {news.line}\r\n".encode()
        self.station.ua.core.request(request, self.station.ua.hop_for(self.call.dialog), self, now)

    def on_response(self, request: Request, response: Response, now: float) -> None:
        self.answers.append(response.status)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        self.answers.append(status)
