"""What a call costs in media and signalling: G.711 both ways, a tone out through the gate, nobody
listening.

    python scripts/bench_media.py [--calls 50 200 500] [--seconds 20] [-o build/bench] [--profile]

The server runs in a process of its own: SIP, RTP, jitter buffers, playout, the gate with its
watermark, and the media clock; no recognizer, no graph. Its callers run in another. CPU is the
kernel's account of the server's process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from ringtrue.agent.bench import machine
from ringtrue.agent.server import settle_memory
from ringtrue.config.settings import LoggingSettings
from ringtrue.loadtest.media_load import MediaResult, MediaSpec, read_result
from ringtrue.streaming.clock import ClockStats, MediaClock
from ringtrue.streaming.loop_watch import LoopWatch
from ringtrue.streaming.provenance import FrameKind
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.session import CallSession
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.marker import Marker

RATE = 8000
TONE_SECONDS = 5
GOAL_PERCENT, GOAL_LATENESS_MS = 0.3, 5.0
MOST = 2000


@dataclass
class Mark:
    """The server's counters at one moment."""

    cpu: float
    loop: float
    rss: int
    ticks: int
    late: int
    skipped: int
    frames: int
    speech: int
    refused: int
    sent_late: int
    lost: int
    lateness: list[float] = field(default_factory=list)
    """Of the ticks since the mark before, in seconds."""

    stalls: dict[str, int] = field(default_factory=dict)


class Lines:
    """The server: answers every call and plays a tone into it."""

    def __init__(self) -> None:
        self.watch = LoopWatch()
        self.clock = MediaClock(on_tick=self.watch.tick)
        self.pool = PortPool("127.0.0.1")
        self.keys = MarkKeys.of(MarkKey.generate())
        wave = np.sin(np.arange(TONE_SECONDS * RATE) * (2 * np.pi * 440 / RATE))
        self.tone = (wave * 3000).astype("<i2").tobytes()
        self.up: dict[CallSession, SipCall] = {}
        self.frames = self.speech = self.refused = self.sent_late = self.lost = 0
        self.seen = 0

    async def invited(self, invite: ServerInvite) -> None:
        """Answer, play, and forget once it is over."""
        call = await invite.answer(session_factory(self.pool, codecs=("PCMU",)))
        now = asyncio.get_running_loop().time()
        record = CallRecord(call.id, "sip", "inbound", "tone", RATE, now)
        session = CallSession(
            call.leg, record, hear=_discard, on_digit=_discard_digit,
            watermarker=Marker(self.keys, RATE, datetime.now(UTC)),
        )  # fmt: skip
        feed = asyncio.create_task(session.feed())
        play = asyncio.create_task(self.play(session))
        self.clock.add(session)
        self.up[session] = call
        await call.ended()
        self.clock.remove(session)
        del self.up[session]
        self.count(session, call)
        for task in (feed, play):
            task.cancel()
        await asyncio.gather(feed, play, return_exceptions=True)
        session.close(now, "over")

    async def play(self, session: CallSession) -> None:
        """One utterance of tone after the other."""
        loop = asyncio.get_running_loop()
        for number in range(10_000):
            waits = session.playout.pending_seconds - TONE_SECONDS / 2
            await asyncio.sleep(max(0.0, waits))
            sealer = session.gate.provenance.utterance()
            session.playout.begin(f"tone-{number}")
            session.playout.write(sealer.seal(self.tone, loop.time(), kind=FrameKind.SPEECH))
            session.playout.finish()

    def count(self, session: CallSession, call: SipCall) -> None:
        """Keep what a call that ended has counted."""
        gate, stats = session.gate.stats, call.leg.stats
        self.frames += gate.sealed
        self.speech += gate.speech
        self.refused += sum(gate.refused.values())
        self.sent_late += stats.frames_sent_late
        self.lost += stats.packets_lost + stats.packets_late

    def mark(self) -> Mark:
        """Everything as it stands."""
        stats: ClockStats = self.clock.stats
        new = min(stats.ticks - self.seen, len(stats.lateness))
        lateness = list(stats.lateness)[len(stats.lateness) - new :]
        self.seen = stats.ticks
        now = Mark(
            time.process_time(), time.thread_time(), _resident(),
            stats.ticks, stats.late, stats.skipped, self.frames, self.speech, self.refused,
            self.sent_late, self.lost, lateness, dict(self.watch.meter.stalls),
        )  # fmt: skip
        for session, call in self.up.items():
            now.frames += session.gate.stats.sealed
            now.speech += session.gate.stats.speech
            now.refused += sum(session.gate.stats.refused.values())
            now.sent_late += call.leg.stats.frames_sent_late
            now.lost += call.leg.stats.packets_lost + call.leg.stats.packets_late
        return now


def _resident() -> int:
    """Bytes of memory the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _machine_time() -> tuple[float, float, float]:
    """Seconds since boot, of all cores: in use, kept by the hypervisor for others, and in all.

    Zeros where the system doesn't say (Linux: proc(5), ``/proc/stat``).
    """
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0, 0.0, 0.0
    user, nice, system, idle, waits, hard, soft, stolen = (
        int(field) / os.sysconf("SC_CLK_TCK") for field in fields
    )
    used = user + nice + system + hard + soft
    return used, stolen, used + stolen + idle + waits


async def _discard(pcm: bytes) -> None:
    """Nobody listens."""


async def _discard_digit(digit: str) -> None:
    """Nor for keys."""


async def serve(profile: bool) -> None:
    """Be the server: a mark for every line on stdin, until it ends."""
    lines, loop = Lines(), asyncio.get_running_loop()
    Marker(lines.keys, RATE, datetime.now(UTC)).mark(bytes(320), FrameKind.SILENCE)  # compiled
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    policy = Policy(max_calls=MOST)
    async with SipEndpoint("127.0.0.1", 0, on_invite=lines.invited, policy=policy) as endpoint:
        settle_memory()
        lines.watch.start()
        print(json.dumps({"port": endpoint.port}), flush=True)
        profiler = cProfile.Profile() if profile else None
        while line := await reader.readline():
            if profiler is not None and line == b"up\n":
                profiler.enable()
            elif profiler is not None and line == b"over\n":
                profiler.disable()
                sys.stderr.write("\n")
                pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(45)
            print(json.dumps(asdict(lines.mark())), flush=True)
        lines.watch.stop()


@dataclass
class Row:
    """One number of calls."""

    calls: int
    cpu_percent: float
    """Of a core, per call that is up, media."""

    signalling_ms: float
    """CPU to set up and take down one call."""

    kib: float
    """Resident memory, per call."""

    tick_p50_ms: float
    tick_p99_ms: float
    tick_worst_ms: float
    ticks_late: int
    ticks: int
    skipped: int
    frames_late_percent: float
    """Sent over 10 ms after their tick."""

    refused: int
    lost: int
    stalls: dict[str, int]
    steal_percent: float
    """Of all cores' time, what the hypervisor kept for other machines."""

    others_percent: float
    """Of a core, what neither server nor callers used of this machine."""

    callers: MediaResult

    @property
    def ok(self) -> bool:
        """All came up and kept sounding."""
        return self.callers.up == self.calls and not self.refused and self.callers.packets > 0


async def measure(calls: int, seconds: float, profile: bool) -> Row:
    """One run against a server of its own."""
    here = [sys.executable, __file__, "--serve", *(["--profile"] if profile else [])]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*here, stdin=pipe, stdout=pipe, limit=1 << 24)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = json.loads(await server.stdout.readline())["port"]

        async def mark(name: str) -> Mark:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{name}\n".encode())
            return Mark(**json.loads(await server.stdout.readline()))

        spec = MediaSpec(f"sip:tone@127.0.0.1:{port}", calls, seconds)
        before = await mark("before")
        module = [sys.executable, "-m", "ringtrue.loadtest.media_load"]
        callers = await asyncio.create_subprocess_exec(
            *module, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert callers.stdin is not None
        assert callers.stderr is not None
        assert callers.stdout is not None
        callers.stdin.write(json.dumps(asdict(spec)).encode())
        callers.stdin.close()
        marks: dict[str, Mark] = {}
        times: dict[str, tuple[float, float, float]] = {}
        while line := await callers.stderr.readline():
            if line in (b"up\n", b"over\n"):
                times[line.decode().strip()] = _machine_time()
                marks[line.decode().strip()] = await mark(line.decode().strip())
            else:
                sys.stderr.write(line.decode())
        result = read_result(await callers.stdout.read())
        await callers.wait()
        after = await mark("after")
    finally:
        server.stdin.close()
        await server.wait()
    up, over = marks["up"], marks["over"]
    call_seconds = (over.frames - up.frames) * 0.02
    share = (over.cpu - up.cpu) / call_seconds
    lateness = np.array(over.lateness or [0.0]) * 1000
    used, stolen, passed = (
        late - early for early, late in zip(times["up"], times["over"], strict=True)
    )
    return Row(
        calls=calls,
        cpu_percent=round(100 * share, 3),
        signalling_ms=round(
            1000 * (after.cpu - before.cpu - share * after.frames * 0.02) / max(1, result.up), 2
        ),
        kib=round((over.rss - before.rss) / 1024 / calls, 1),
        tick_p50_ms=round(float(np.percentile(lateness, 50)), 2),
        tick_p99_ms=round(float(np.percentile(lateness, 99)), 2),
        tick_worst_ms=round(float(lateness.max()), 2),
        ticks_late=over.late - up.late,
        ticks=over.ticks - up.ticks,
        skipped=over.skipped - up.skipped,
        frames_late_percent=round(
            100 * (over.sent_late - up.sent_late) / max(1, over.frames - up.frames), 3
        ),
        refused=over.refused - up.refused,
        lost=over.lost - up.lost,
        stalls=dict(Counter(over.stalls) - Counter(up.stalls)),
        steal_percent=round(100 * stolen / max(passed, 1e-9), 1),
        others_percent=max(
            0.0, round(100 * (used - (over.cpu - up.cpu)) / seconds - result.cpu_percent, 1)
        ),
        callers=result,
    )


def shown(row: Row) -> str:
    """A few lines of the report."""
    callers = row.callers
    return (
        f"{row.calls:4} calls: {row.cpu_percent:.3f} % of a core per call "
        f"(goal {GOAL_PERCENT} at 200), set-up and end {row.signalling_ms:.1f} ms CPU, "
        f"{row.kib:.0f} KiB\n"
        f"      tick lateness p50 {row.tick_p50_ms} p99 {row.tick_p99_ms} worst "
        f"{row.tick_worst_ms} ms (goal p99 < {GOAL_LATENESS_MS}), {row.ticks_late} of {row.ticks} "
        f"over 10 ms, {row.skipped} skipped; frames sent late {row.frames_late_percent} %\n"
        f"      at the callers: {callers.up} up, set-up {callers.setup_ms} ms, {callers.packets} "
        f"packets, {callers.missing} missing, {callers.late} over 20 ms late; lateness p50/p99/"
        f"p99.9/worst {callers.late_p50_ms}/{callers.late_p99_ms}/{callers.late_p999_ms}/"
        f"{callers.worst_ms} ms (own p99 {callers.sender_p99_ms}; {callers.cpu_percent} % CPU)\n"
        f"      refused {row.refused}, lost or late in {row.lost}; stalls {row.stalls}\n"
        f"      the hypervisor kept {row.steal_percent} % of all cores for others (steal); "
        f"{row.others_percent} % of a core went to what is neither server nor callers"
    )


def main(calls: list[int], seconds: float, out: Path, profile: bool) -> int:
    """Measure, print, write."""
    rows = []
    for count in calls:
        rows.append(asyncio.run(measure(count, seconds, profile)))
        print(shown(rows[-1]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    (out / "media.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"on {machine()}; results: {out / 'media.json'}")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cost of calls in media and signalling.")
    parser.add_argument("--calls", type=int, nargs="+", default=[50, 200, 500])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        from ringtrue.agent.logs import configure_logs

        configure_logs(LoggingSettings(level="WARNING"))
        uvloop.run(serve(options.profile))
        sys.exit(0)
    sys.exit(main(options.calls, options.seconds, options.out, options.profile))
