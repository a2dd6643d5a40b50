"""Times cloned voices on one core: ``.venv/bin/python scripts/bench_streams.py``.

What is measured, after one warm-up:

- first PCM: from ``feed`` of a first clause to the first chunk out of ``frames``, nothing else
  running, over several clauses and base voices;
- RTF: CPU time of the whole process for each second of speech made, vocoder included;
- many streams: N utterances begun within one second, each read in real time (a chunk when the
  one before has been played). First PCM as above; late: chunks that came after their turn, and
  by how much at worst; CPU as a share of the core;
- memory: growth of the resident set over many prepared voices and over many open streams.

The voices are transforms of the three bases with made-up numbers: the work does not depend on
them. ``--state FILE`` measures a voice made by enrolment instead.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ringtrue.voices.cloning.fit import LIVELINESS
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.embedded import EmbeddedEngine, EmbeddedVoice
from ringtrue.voices.flite import VOICES
from ringtrue.voices.flite.frontend import BANDS, COEFFICIENTS
from ringtrue.voices.saying import said
from ringtrue.voices.stock import FliteEngine

RATE = 16000
CLAUSES = (
    "Good morning,",
    "Thank you for calling,",
    "Let me look that up,",
    "I have found your appointment,",
    "Your parcel left our warehouse yesterday,",
)
TEXT = (
    "Your parcel left our warehouse yesterday, and it should arrive before noon. If you would "
    "like to speak with a member of our team, just say operator. We will send you a "
    "confirmation by email within the next few minutes."
)


def made_up(base: str, seed: int) -> bytes:
    """A state with the numbers of nobody's voice."""
    rng = np.random.default_rng(seed)
    matrices = np.stack([np.eye(COEFFICIENTS)] * 2)
    matrices += rng.normal(0, 0.01, matrices.shape)
    offsets = rng.normal(0, 0.03, (2, CLASSES, COEFFICIENTS))
    strengths = np.stack([np.ones(BANDS), rng.normal(0, 0.2, BANDS)])
    pitch = PitchMap(math.log(150.0), math.log(rng.uniform(100.0, 220.0)), 1.1)
    return CloneModel(
        base, pitch, matrices, offsets, strengths, neural=True, liveliness=LIVELINESS
    ).to_bytes()


def resident() -> int:
    """Bytes of memory in use by this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


async def first_pcm(voice: EmbeddedVoice, clause: str) -> float:
    """Milliseconds to the first chunk."""
    stream = voice.open(RATE)
    frames = stream.frames()
    started = time.perf_counter()
    stream.feed(clause)
    await anext(frames)
    elapsed = time.perf_counter() - started
    stream.cut()
    await frames.aclose()  # type: ignore[attr-defined]
    return 1000 * elapsed


async def real_time_factor(voices: list[EmbeddedVoice]) -> float:
    """CPU seconds for each second of speech."""
    samples, started = 0, time.process_time()
    for voice in voices:
        async for chunk in said(voice.open(RATE), TEXT):
            samples += len(chunk.pcm) // 2
    return (time.process_time() - started) / (samples / RATE)


@dataclass(slots=True)
class Load:
    """What N streams at once gave."""

    streams: int
    first_p50_ms: float
    first_p95_ms: float
    late_chunks: int
    chunks: int
    worst_late_ms: float
    cpu_percent: float


async def together(voices: list[EmbeddedVoice], count: int, seconds: float) -> Load:
    """``count`` streams read in real time for ``seconds``."""
    firsts: list[float] = []
    lateness: list[float] = []

    async def listen(number: int, voice: EmbeddedVoice) -> None:
        await asyncio.sleep(number / count)
        end = time.perf_counter() + seconds
        begun = time.perf_counter()
        due: float | None = None
        text = f"{CLAUSES[number % len(CLAUSES)]} " + TEXT * math.ceil(seconds / 10)
        async for chunk in said(voice.open(RATE), text):
            now = time.perf_counter()
            if due is None:
                firsts.append(1000 * (now - begun))
                due = now
            else:
                lateness.append(1000 * (now - due))
            due = max(due, now) + len(chunk.pcm) / 2 / RATE
            if now > end:
                break
            # The next slice is asked for 60 ms ahead of its turn, as a playout buffer does.
            await asyncio.sleep(max(0.0, due - 0.06 - time.perf_counter()))

    used, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*(listen(n, voices[n % len(voices)]) for n in range(count)))
    cpu = (time.process_time() - used) / (time.perf_counter() - started)
    late = [value for value in lateness if value > 0]
    return Load(
        count,
        round(float(np.percentile(firsts, 50)), 1),
        round(float(np.percentile(firsts, 95)), 1),
        len(late),
        len(lateness),
        round(max(late, default=0.0), 1),
        round(100 * cpu, 1),
    )


async def memory(engine: EmbeddedEngine, state: bytes, count: int = 200) -> tuple[float, float]:
    """Kilobytes for each prepared voice and each stream in the middle of its speech."""
    before = resident()
    voices = [await engine.prepare(state) for _ in range(count)]
    per_voice = (resident() - before) / count
    before = resident()
    streams = [voice.open(RATE) for voice in voices]
    readers = [stream.frames() for stream in streams]
    for stream, reader in zip(streams, readers, strict=True):
        stream.feed(TEXT)
        await anext(reader)
    per_stream = (resident() - before) / count
    for stream, reader in zip(streams, readers, strict=True):
        stream.cut()
        await reader.aclose()  # type: ignore[attr-defined]
    return per_voice / 1024, per_stream / 1024


async def measure(arguments: argparse.Namespace) -> None:
    """Run everything and print it."""
    stock = FliteEngine(threads=1)
    engine = EmbeddedEngine(stock)
    await engine.warm()
    if arguments.state:
        states = [await asyncio.to_thread(arguments.state.read_bytes)]
    else:
        states = [made_up(base, seed) for seed, base in enumerate(VOICES)]
    started = time.perf_counter()
    voices = [await engine.prepare(state) for state in states]
    prepare_ms = 1000 * (time.perf_counter() - started) / len(voices)
    for voice in voices:
        await first_pcm(voice, "Warm up now.")
    pairs = list(itertools.product(voices, CLAUSES)) * arguments.runs
    firsts = [await first_pcm(voice, clause) for voice, clause in pairs]
    rtf = await real_time_factor(voices)
    loads = [await together(voices, count, arguments.seconds) for count in arguments.streams]
    per_voice, per_stream = await memory(engine, states[0])
    result = {
        "prepare_ms": round(prepare_ms, 1),
        "first_pcm_ms": {
            "runs": len(firsts),
            "p50": round(float(np.percentile(firsts, 50)), 1),
            "p95": round(float(np.percentile(firsts, 95)), 1),
            "worst": round(max(firsts), 1),
        },
        "rtf": round(rtf, 4),
        "kb_per_voice": round(per_voice, 1),
        "kb_per_stream": round(per_stream, 1),
        "together": [asdict(load) for load in loads],
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        await engine.close()
        await stock.close()
        return
    first = result["first_pcm_ms"]
    print(f"prepare a voice     {prepare_ms:.1f} ms")
    print(f"first PCM           {first} ms")
    print(f"RTF with vocoder    {rtf:.4f}")
    print(f"memory              {per_voice:.0f} kB a voice, {per_stream:.0f} kB a stream")
    print(
        f"{'streams':>8} {'first p50':>10} {'p95 ms':>7} {'late':>12} {'worst ms':>9} {'CPU %':>6}"
    )
    for load in loads:
        share = f"{load.late_chunks}/{load.chunks}"
        print(
            f"{load.streams:8d} {load.first_p50_ms:10.1f} {load.first_p95_ms:7.1f} {share:>12} "
            f"{load.worst_late_ms:9.1f} {load.cpu_percent:6.1f}"
        )
    await engine.close()
    await stock.close()


def main() -> None:
    """Read the arguments, stay on one core, measure."""
    parser = argparse.ArgumentParser(description="Time cloned voices on one core.")
    parser.add_argument("--state", type=Path, help="state of a cloned voice, unsealed")
    parser.add_argument("--runs", type=int, default=10, help="times each first clause is spoken")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 10, 25, 50])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
