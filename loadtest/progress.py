"""A run as it goes: a live line of rich on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ringtrue.loadtest.report import distribution
from ringtrue.loadtest.runner import Progress
from ringtrue.loadtest.timeline import plain_table

PLAIN_SECONDS: Final = 10.0
"""Between two plain lines."""

REFRESH_PER_SECOND: Final = 2


class ProgressView:
    """Shows a run's progress on ``console``. Use ``with``; give :meth:`show` each news."""

    def __init__(self, console: Console, title: str) -> None:
        """``title`` says what runs."""
        self._console = console
        self._title = title
        self._live = (
            Live(console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True)
            if console.is_terminal
            else None
        )
        self._next = 0.0
        self._news: Progress | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._title, highlight=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live lines away, or print the last plain one."""
        if self._live is not None:
            self._live.stop()
        elif self._news is not None:
            self._console.print(line(self._news), highlight=False)

    def show(self, news: Progress) -> None:
        """Show ``news``, as often as the console bears it."""
        self._news = news
        if self._live is not None:
            self._live.update(self._table(news))
        elif news.at_s >= self._next:
            self._next = news.at_s + PLAIN_SECONDS
            self._console.print(line(news), highlight=False)

    def _table(self, news: Progress) -> Table:
        found = distribution(news.latencies)
        table = plain_table()
        table.title, table.title_justify = self._title, "left"
        for heading in ("time", "up", "ringing", "done", "failed", "turns", "p50", "p95", "worst"):
            table.add_column(heading, justify="right")
        table.add_row(
            f"{news.at_s:.0f} s",
            str(news.up),
            str(news.ringing),
            _done(news),
            f"[red]{news.failed}[/]" if news.failed else "0",
            str(found.count),
            *(_ms(value) for value in (found.p50, found.p95, found.worst)),
        )
        return table


def line(news: Progress) -> str:
    """The news in one line."""
    found = distribution(news.latencies)
    return (
        f"{news.at_s:5.0f} s  {news.up} up, {news.ringing} ringing, {_done(news)} done, "
        f"{news.failed} failed; {found.count} turns, p50 {_ms(found.p50)}, p95 {_ms(found.p95)}, "
        f"worst {_ms(found.worst)}"
    )


def _done(news: Progress) -> str:
    return str(news.done) if news.planned is None else f"{news.done} of {news.planned}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
