"""Ringtrue beside plain Pipecat and FastRTC applications: ``make bench-peers``.

Every server runs alone on one core, the callers and the language model on the others. All have
the same language model (a process of its own that speaks OpenAI's wire format with fixed
delays), the same recognizer and synthesizer stand-ins (fixed delays, no computation), silero and,
but for FastRTC, smart-turn. Ringtrue runs with its gate, seals, watermark and audit log on, the
peers have nothing of the kind; its admission is off, for the peers take every call. What is
compared is the stack: transport, turns, graph, playout.

Turn latency runs from a caller's last speech sample to the first sample of the answer at the
caller's ear; TTFA from the text handed to the synthesizer to the first of its samples there.
Calls per core: the most calls at once, of those tried, with turn latency p95 under 800 ms, TTFA
p95 under 200 ms and every turn answered (an unanswered one counts as worse than any limit).
What a stack adds is the median turn less what the model and the stand-ins take by themselves.

A row takes about a minute. Rows are kept in ``peers.json``, a later run takes only those that are
not there, and the table is of all taken with these versions on that day: ``--seconds 200``
stops before a row that would take longer, ``--anew`` begins from nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).parent / "peers"
FIXED_MS: Final = 50.0 + 156.0 + 40.0
"""Recognizer, language model to the end of its first sentence, synthesizer (``peers/standins.py``
and ``peers/llm.py``): what no stack can save."""

TURN_MS: Final = 800.0
TTFA_MS: Final = 200.0
READY_SECONDS: Final = 90.0
LEVELS: Final = (1, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120)
WEBRTC_LEVELS: Final = (1, 2, 4, 6, 8)
ROW_SECONDS: Final = 75.0
"""A row that is begun is done by then, but for the largest."""

TRANSPORTS: Final = ("twilio", "webrtc")
SERVERS: Final = ("ringtrue", "pipecat", "fastrtc")

AGENT: Final = """\
name: peer
title: Peer
language: en
voice: rms
organisation: the comparison
greeting: [Hello.]
prompt: You are a helpful receptionist.
"""


@dataclass(frozen=True)
class Row:
    """What one server did with one number of calls."""

    server: str
    transport: str
    calls: int
    turns: int
    unanswered: int
    turn_p50_ms: float | None
    turn_p95_ms: float | None
    ttfa_p50_ms: float | None
    ttfa_p95_ms: float | None
    cpu_percent_per_call: float
    memory_mb_per_call: float
    dropouts: int
    skipped_ticks: int
    failures: list[str]

    @property
    def added_ms(self) -> float | None:
        """What the stack adds to the median turn: the end of it, and all ways."""
        return None if self.turn_p50_ms is None else round(self.turn_p50_ms - FIXED_MS, 1)

    @property
    def holds(self) -> bool:
        """Whether the limits hold."""
        return (
            self.turn_p95_ms is not None
            and self.turn_p95_ms < TURN_MS
            and self.ttfa_p95_ms is not None
            and self.ttfa_p95_ms < TTFA_MS
        )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="python with the peers installed")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    parser.add_argument("--levels", nargs="+", type=int, help="calls at once")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no row later")
    parser.add_argument("--anew", action="store_true", help="forget the rows that were taken")
    parser.add_argument("-o", type=Path, default=Path("build/peers"), help="where results go")
    options = parser.parse_args()
    console = Console()
    options.o.mkdir(parents=True, exist_ok=True)
    path = options.o / "peers.json"
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": _versions(options.peers),
        "cores": os.cpu_count(),
    }
    rows = [] if options.anew else _taken(path, report)
    until = time.monotonic() + options.seconds - ROW_SECONDS
    for server in options.servers:
        for transport in options.transports:
            for row in _measure(server, transport, options, rows, until, console):
                rows.append(row)
                report["rows"] = [
                    asdict(each) | {"holds": each.holds, "added_ms": each.added_ms} for each in rows
                ]
                path.write_text(json.dumps(report, indent=1) + "\n")
    _print(rows, console)
    console.print(f"{report['versions']}, {report['date']}; results: {path}")
    return 0


def _taken(path: Path, like: dict[str, Any]) -> list[Row]:
    """The rows of ``path``, where they are of the same day, versions and machine."""
    if not path.is_file():
        return []
    report = json.loads(path.read_text())
    if any(report.get(key) != value for key, value in like.items()):
        return []
    names = {field.name for field in fields(Row)}
    return [Row(**{k: v for k, v in row.items() if k in names}) for row in report["rows"]]


def _measure(
    server: str,
    transport: str,
    options: argparse.Namespace,
    rows: list[Row],
    until: float,
    console: Console,
) -> Iterator[Row]:
    """The rows of a server that are not there yet, until two in a row broke the limits."""
    levels = options.levels or (LEVELS if transport == "twilio" else WEBRTC_LEVELS)
    taken = {row.calls: row for row in rows if (row.server, row.transport) == (server, transport)}
    broken = 0
    for calls in levels:
        row = taken.get(calls)
        if row is None:
            if time.monotonic() > until:
                console.print(f"{server} {transport} {calls}: left for the next run")
                return
            row = _once(server, transport, calls, options)
            console.print(
                f"{server} {transport} {calls}: turn {row.turn_p50_ms}/{row.turn_p95_ms} ms, "
                f"TTFA {row.ttfa_p50_ms}/{row.ttfa_p95_ms} ms, unanswered {row.unanswered}, "
                f"CPU {row.cpu_percent_per_call} % a call, dropouts {row.dropouts}, "
                f"callers' ticks skipped {row.skipped_ticks} {' | '.join(row.failures[:2])}",
                highlight=False,
            )
            yield row
        broken = 0 if row.holds else broken + 1
        if broken == 2:
            return


def _once(server: str, transport: str, calls: int, options: argparse.Namespace) -> Row:
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        log = Path(folder, "standins.log")
        log.touch()
        with (
            _language_model() as llm,
            _serving(server, options.peers, llm, Path(folder), log) as (process, port, token),
        ):
            spec = {
                "transport": transport,
                "server": server,
                "port": port,
                "calls": calls,
                "turns": options.turns,
                "auth_token": token,
            }
            _call(spec | {"calls": 1, "turns": 1})  # what is loaded at the first call is loaded
            log.write_text("")
            before, memory = _cpu(process), _memory(process)
            reports = _call(spec)
            used, grown = _cpu(process) - before, _memory(process) - memory
        return _row(server, transport, calls, reports, log, used, grown)


def _call(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What the callers of ``spec`` measured."""
    out = subprocess.run(
        [*_pinned("callers"), sys.executable, str(HERE / "callers.py")],
        input=json.dumps(spec).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=spec["turns"] * 30 + 120,
    ).stdout
    reports: list[dict[str, Any]] = json.loads(out)
    return reports


def _row(
    server: str,
    transport: str,
    calls: int,
    reports: list[dict[str, Any]],
    log: Path,
    used: float,
    grown: float,
) -> Row:
    begun = [(int(n), float(at)) for n, at, _ in map(str.split, log.read_text().splitlines())]
    latency: list[float] = []
    ttfa: list[float] = []
    for turn in (turn for report in reports for turn in report["turns"]):
        heard = turn["heard"]
        latency.append(math.inf if heard is None else 1000 * (heard - turn["asked"]))
        texts = [at for number, at in begun if number == turn["number"] and heard and at < heard]
        ttfa.append(1000 * (heard - max(texts)) if texts else math.inf)
    up = sum(report["seconds"] for report in reports)
    return Row(
        server=server,
        transport=transport,
        calls=calls,
        turns=len(latency),
        unanswered=sum(map(math.isinf, latency)),
        turn_p50_ms=_percentile(latency, 50),
        turn_p95_ms=_percentile(latency, 95),
        ttfa_p50_ms=_percentile(ttfa, 50),
        ttfa_p95_ms=_percentile(ttfa, 95),
        cpu_percent_per_call=round(100 * used / up, 2) if up else 0.0,
        memory_mb_per_call=round(grown / calls / 2**20, 2),
        dropouts=sum(report["dropouts"] for report in reports),
        skipped_ticks=sum(report["skipped_ticks"] for report in reports),
        failures=sorted({report["failure"] for report in reports if report["failure"]}),
    )


def _percentile(values: list[float], percent: int) -> float | None:
    """By nearest rank; None where it lies among the unanswered."""
    ranked = sorted(values)
    value = ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)] if ranked else math.inf
    return None if math.isinf(value) else round(value, 1)


@contextlib.contextmanager
def _language_model() -> Iterator[str]:
    port = _free_port()
    command = [*_pinned("callers"), sys.executable, str(HERE / "llm.py"), str(port)]
    with _process(command, port, {}):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def _serving(
    server: str, peers: Path, llm: str, folder: Path, log: Path
) -> Iterator[tuple[psutil.Process, int, str]]:
    """A server on the first core: its process, port, Twilio auth token."""
    port, token = _free_port(), secrets.token_hex(16)
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    environment = {"STANDIN_LOG": str(log), "PYTHONPATH": path}
    if server == "ringtrue":
        command = [str(Path(sys.executable).parent / "ringtrue"), "serve", "--config"]
        command.append(str(_configured(folder, port, token, llm)))
        environment |= {"HOME": str(folder)}
    else:
        command = [str(peers), str(HERE / f"{server}_app.py"), str(port), llm]
    with _process([*_pinned("server"), *command], port, environment) as process:
        yield psutil.Process(process.pid), port, token


def _configured(folder: Path, port: int, token: str, llm: str) -> Path:
    agents = folder / "agents"
    agents.mkdir()
    (agents / "peer.yaml").write_text(AGENT)
    settings = {
        "server": {"max_calls": 500},
        "admission": {"enabled": False},  # the others take every call, too
        "sip": {"enabled": False},
        "http": {"host": "127.0.0.1", "port": port, "public_url": f"http://127.0.0.1:{port}"},
        "twilio": {"enabled": True, "auth_token": token},
        "agents": {"dir": str(agents), "default": "peer"},
        "stt": {"engine": "pipecat", "service": "pipecat_standins:StandInSTT"},
        "llm": {"engine": "openai", "base_url": llm, "model": "fixed", "api_key": "none"},
        "tts": {"engine": "pipecat", "service": "pipecat_standins:StandInTTS"},
        "records": {"dir": str(folder / "records")},
        "logging": {"level": "WARNING"},
    }
    path = folder / "ringtrue.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


@contextlib.contextmanager
def _process(
    command: list[str], port: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """``command``, once it listens on ``port``."""
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        until = time.monotonic() + READY_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"did not start: {' '.join(command)}")
            time.sleep(0.2)
        time.sleep(2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pinned(part: str) -> list[str]:
    """The command that keeps a part on its cores: the server on the first, all else elsewhere."""
    cores = os.cpu_count() or 1
    if cores < 2:
        return []
    return ["taskset", "-c", "0" if part == "server" else f"1-{cores - 1}"]


def _cpu(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def _memory(process: psutil.Process) -> float:
    return float(sum(each.memory_info().rss for each in [process, *process.children(True)]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _versions(peers: Path) -> str:
    code = (
        "from importlib.metadata import version as v; import platform;"
        "print(f\"Pipecat {v('pipecat-ai')}, FastRTC {v('fastrtc')}, \"\n"
        'f"Python {platform.python_version()}")'
    )
    return subprocess.run(
        [str(peers), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _print(rows: list[Row], console: Console) -> None:
    table = Table(box=None)
    titles = ("", "calls", "turns", "turn p50", "p95", "added p50", "TTFA p95", "CPU %/call")
    for title in (*titles, "dropouts", "holds"):
        table.add_column(title, justify="left" if not title else "right")
    ordered = sorted(rows, key=lambda row: (row.transport, SERVERS.index(row.server), row.calls))
    for row in ordered:
        values = (row.turn_p50_ms, row.turn_p95_ms, row.added_ms, row.ttfa_p95_ms)
        table.add_row(
            f"{row.server} {row.transport}",
            *map(str, (row.calls, row.turns, *values, row.cpu_percent_per_call, row.dropouts)),
            "yes" if row.holds else "no",
        )
    console.print(table)
    for server, transport in dict.fromkeys((row.server, row.transport) for row in ordered):
        own = [row for row in rows if (row.server, row.transport) == (server, transport)]
        most = max((row.calls for row in own if row.holds), default=0)
        console.print(f"{server} {transport}: {most} calls per core within the limits")


if __name__ == "__main__":
    sys.exit(main())
