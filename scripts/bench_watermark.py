"""The robustness bench of the watermark: ``make bench-watermark``.

Real speech (four speakers of Asterisk's prompts) and this server's own (a stock voice, and a clone
of one of the four) is marked, attacked in every way of ``watermark_attacks.py``, cut into crops of
so many seconds of active speech, and searched. Printed are the share found at a false-alarm
probability of 1e-6, the share whose token was read, with Wilson's 95 % intervals, and what the
mark costs in quality and time. ``--only goals`` takes many crops of what the goals are about;
``--null N`` instead searches N clips that carry no mark, or another key's; ``--perth`` tries
``resemble-perth`` on the same clips.

Part 0 of the speech is the minute of every source that the detector was developed on; what is
measured is of part 1, which it was not.

Results go to ``build/watermark/`` row by row. ``--resume`` keeps the rows that are there, of the
code as it is, and measures the rest; ``--minutes`` stops after so long; ``--write FILE`` puts the
tables between that file's markers.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from watermark_attacks import RATE, Audio, cases, resampled, to_pcm
from watermark_corpus import OUT, SPEAKERS, hosts, say
from watermark_hosts import KEY, Attack, attacks, crops, marked, segmental_snr, token_of
from watermark_kept import Kept, fingerprint
from watermark_null import null, null_table
from watermark_perth import perth
from watermark_tables import shown, write_between

from ringtrue.voices.watermark.detector import FALSE_ALARM, Detection, Search, detect
from ringtrue.voices.watermark.embedder import RATES, Embedder, excitation
from ringtrue.voices.watermark.token import symbols

SECONDS: Final = (1, 2, 3, 6, 10)
TOKEN_SECONDS: Final = (3, 6, 10)
GOALS: Final = (
    ("G.711 µ-law", "found", 1),
    ("G.711 A-law", "found", 1),
    ("Opus 12k", "found", 3),
    ("AMR 12.2", "found", 5),
    ("GSM-FR", "found", 5),
    ("G.711 µ-law", "token", 6),
    ("Opus 12k", "token", 6),
    ("AMR 12.2", "token", 6),
    ("GSM-FR", "token", 6),
)
"""After which attack, what, and within how many seconds of active speech."""

SOURCES: Final = len(SPEAKERS) + 2
SECTIONS: Final = ("speed", "quality", "goals", "robustness")


@dataclass(frozen=True, slots=True)
class Row:
    """One attack."""

    name: str
    crops: int
    found: dict[int, int]
    """By seconds of active speech, how many crops were found."""

    read: dict[int, int]
    """Likewise, of how many the token was read."""

    wrong: int
    """How many tokens were read that are not the right one."""

    level: float
    """Speech against what the attack made of it, in dB; 0 where lengths differ."""

    part: int = 0
    """Which minute of the speech."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One of :data:`GOALS`."""

    name: str
    what: str
    seconds: int
    hits: dict[str, int]
    """By source."""

    crops: dict[str, int]
    """By source, of how many."""

    part: int = 0
    """Which minute of the speech."""


def searched(crop: Audio, first: Search, *, thorough: bool) -> Detection:
    """One crop, in the memory of ``first``."""
    search = Search([KEY], RATE, thorough=thorough, beside=first)
    search.feed(to_pcm(crop))
    return search.finish()


def measure(attack: Attack, sources: dict[str, Audio], count: int, seconds: Sequence[int]) -> Row:
    """One row, ``count`` crops of every source."""
    found = dict.fromkeys(seconds, 0)
    read = dict.fromkeys([each for each in TOKEN_SECONDS if each in seconds], 0)
    wrong = crop_count = 0
    levels = []
    thorough = attack.case.thorough
    first = Search([KEY], RATE, thorough=thorough)
    for number, host in enumerate(sources.values()):
        heard, right = attack.heard(host, number), attack.right(number)
        if len(heard) == len(host):
            levels.append(segmental_snr(host, heard))
        crop_count += count
        for length in seconds:
            for crop in crops(host, heard, length, count, seed=1000 * number + length):
                result = searched(crop, first, thorough=thorough)
                found[length] += result.found
                if length in read:
                    read[length] += bool(right & set(result.tokens))
                wrong += len(set(result.tokens) - right)
    level = float(np.mean(levels)) if levels else 0.0
    return Row(attack.case.name, crop_count, found, read, wrong, level)


def goal(row: Goal, sources: dict[str, Audio], count: int, until: float,
         keep: Callable[[Goal], None]) -> None:  # fmt: skip
    """Go on with one goal to ``count`` crops of every source; ``keep`` gets it after each."""
    attack = attacks(sources[SPEAKERS[1]])[row.name]
    first = Search([KEY], RATE)
    for number, (source, host) in enumerate(sources.items()):
        before = row.crops.get(source, 0)
        if before >= count or time.monotonic() > until:
            continue
        heard, right = attack.heard(host, number), attack.right(number)
        hits = row.hits.get(source, 0)
        every = crops(host, heard, row.seconds, count, seed=1000 * number + row.seconds)
        for crop in islice(every, before, None):
            result = searched(crop, first, thorough=False)
            hits += result.found if row.what == "found" else bool(right & set(result.tokens))
        row.hits[source], row.crops[source] = hits, count
        keep(row)


def told(name: str, what: str, seconds: int) -> str:
    """A goal in words."""
    return f"{what} within {seconds} s after {name}"


def goals_table(rows: Sequence[Goal]) -> str:
    """In Markdown."""
    lines = ["| goal: 99 % | reached | crops | least of a source |", "|---|---|---|---|"]
    for row in rows:
        total, crops_all = sum(row.hits.values()), sum(row.crops.values())
        _, least = min((row.hits[each] / row.crops[each], each) for each in row.hits)
        label = told(row.name, row.what, row.seconds)
        worst = "all"
        if total < crops_all:
            worst = f"{row.hits[least]} of {row.crops[least]} ({least})"
        lines.append(f"| {label} | {shown(total, crops_all)} | {crops_all} | {worst} |")
    return "\n".join(lines)


def robustness_table(rows: Sequence[Row], seconds: Sequence[int]) -> str:
    """In Markdown."""
    read = [each for each in TOKEN_SECONDS if each in seconds]
    heads = [f"found {each} s" for each in seconds] + [f"token {each} s" for each in read]
    heads.append("crops")
    lines = ["| after | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [shown(row.found[each], row.crops) for each in seconds]
        cells += [shown(row.read[each], row.crops) for each in read]
        lines.append(f"| {row.name} | " + " | ".join([*cells, str(row.crops)]) + " |")
    return "\n".join(lines)


def quality(sources: dict[str, Audio]) -> str:
    """What the mark costs in quality, in Markdown."""
    from ringtrue.voices.quality.naturalness import ListenersMark

    pesq: Callable[..., float] | None = None
    if importlib.util.find_spec("pesq") is not None:
        from pesq import pesq  # type: ignore[import-not-found,no-redef]
    listeners = ListenersMark()
    lines = [
        "| speech | PESQ-NB | DNSMOS P.808 before → after | segmental SNR |",
        "|---|---|---|---|",
    ]
    means: list[tuple[float, float, float, float]] = []

    def wide(samples: Audio) -> Audio:
        return resampled(samples / 32768, RATE, 16000)

    for number, (name, host) in enumerate(sources.items()):
        clear = to_pcm(host).astype(np.float64)
        sent = marked(clear, token_of(number))
        clear = clear[: len(sent)]
        scores = []
        for at in range(0, len(sent) - 8 * RATE + 1, 8 * RATE):
            pair = [to_pcm(each[at : at + 8 * RATE]) for each in (clear, sent)]
            scores.append(math.nan if pesq is None else float(pesq(RATE, *pair, "nb")))
        row = (
            float(np.mean(scores)),
            listeners(wide(clear)),
            listeners(wide(sent)),
            segmental_snr(clear, sent),
        )
        means.append(row)
        lines.append(f"| {name} | {row[0]:.2f} | {row[1]:.2f} → {row[2]:.2f} | {row[3]:.1f} dB |")
    mean = np.mean(means, axis=0)
    lines.append(f"| mean | {mean[0]:.2f} | {mean[1]:.2f} → {mean[2]:.2f} | {mean[3]:.1f} dB |")
    return "\n".join(lines)


def speed(sources: dict[str, Audio]) -> str:
    """CPU of marking and searching, in Markdown."""
    host = next(iter(sources.values()))
    chips = excitation(KEY, symbols(KEY, token_of(0)))
    lines = ["| what | CPU |", "|---|---|"]
    for rate in RATES:
        size = rate // 50
        pcm = to_pcm(resampled(host[: 10 * RATE], RATE, rate))
        pcm = pcm[: len(pcm) // size * size].reshape(-1, size)
        one = Embedder(chips, rate)
        each = fastest(lambda: [one.mark(frame.tobytes()) for frame in pcm]) / len(pcm)  # noqa: B023
        legs = [Embedder(chips, rate) for _ in range(100)]
        tick = [frame.tobytes() for frame in pcm[100:200]]
        many = fastest(lambda: [leg.mark(frame) for leg, frame in zip(legs, tick, strict=True)])  # noqa: B023
        lines.append(f"| a frame of 20 ms at {rate} Hz | {1e6 * each:.1f} µs |")
        lines.append(f"| a frame at {rate} Hz, among 100 legs | {1e4 * many:.1f} µs |")
    sent = to_pcm(marked(host, token_of(0)))
    for name, pcm in (("marked", sent), ("unmarked", to_pcm(host))):
        taken = fastest(lambda: detect(pcm, RATE, [KEY]), times=2)  # noqa: B023
        lines.append(f"| search of {name} speech | {len(pcm) / RATE / taken:.0f} × real time |")
    return "\n".join(lines)


def fastest(run: Callable[[], object], times: int = 5) -> float:
    """CPU seconds of the fastest of some runs, the first not counted."""
    run()
    best = math.inf
    for _ in range(times):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--crops", type=int, default=16, help="crops of every source (6 of them)")
    parser.add_argument("--seconds", type=int, nargs="+", default=list(SECONDS))
    parser.add_argument("--attack", action="append", help="only rows whose name holds this; repeat")
    parser.add_argument(
        "--part", type=int, choices=(0, 1), default=1, help="which minute of the speech; see above"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--null", type=int, metavar="N", help="search N unmarked clips instead")
    parser.add_argument("--perth", action="store_true", help="resemble-perth on the same clips")
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no row after so many"
    )
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for and print it."""
    options = arguments()
    options.until = time.monotonic() + 60 * options.minutes
    OUT.mkdir(parents=True, exist_ok=True)
    sources = hosts(options.part)
    done: dict[str, str] = {}
    names = list(attacks(sources[SPEAKERS[1]]))
    if options.attack:
        names = [name for name in names if any(part in name for part in options.attack)]
    if options.null:
        kept = Kept(OUT / "null.json", fingerprint("watermark_null.py"), resume=options.resume)
        done["null"] = null_table(null(options.null, sources, kept, options.until))
    elif options.perth:
        chosen = [case for case in cases(sources[SPEAKERS[1]]) if case.name in names]
        code = fingerprint("watermark_perth.py", product=False)
        kept = Kept(OUT / f"perth_{options.part}.json", code, resume=options.resume)
        done["perth"] = perth(chosen, sources, options.crops, kept, options.until)
    else:
        wanted = options.only or SECTIONS
        if "speed" in wanted:
            done["speed"] = speed(sources)
        if "quality" in wanted:
            done["quality"] = quality(sources)
        if "goals" in wanted:
            done["goals"] = goals(sources, options)
        if "robustness" in wanted:
            done["robustness"] = robustness(names, options)
    for section, text in done.items():
        print(f"\n## {section}\n\n{text}")
        if options.write is not None:
            write_between(options.write, section, text)


def goals(sources: dict[str, Audio], options: argparse.Namespace) -> str:
    """Every goal, in Markdown; every source's part is kept in a file as soon as it is there."""
    kept = Kept(OUT / "goals.json", fingerprint(), resume=options.resume)
    rows = {(row.name, row.what, row.seconds): row for row in (Goal(**each) for each in kept.rows)}

    def keep(row: Goal) -> None:
        rows[row.name, row.what, row.seconds] = row
        say(goals_table([row]).splitlines()[-1])
        kept.keep([asdict(each) for each in rows.values()])

    for aim in GOALS:
        if options.attack and not any(part in told(*aim) for part in options.attack):
            continue
        row = rows.get(aim)
        if row is None or row.part != options.part:
            row = Goal(*aim, {}, {}, options.part)
        goal(row, sources, options.crops, options.until, keep)
    return goals_table([rows[aim] for aim in GOALS if aim in rows and rows[aim].hits])


def robustness(names: Sequence[str], options: argparse.Namespace) -> str:
    """The large table, in Markdown; every row is kept in a file as soon as it is there."""
    kept = Kept(OUT / "robustness.json", fingerprint(), resume=options.resume)
    rows = _kept_rows(kept, options)
    context = multiprocessing.get_context("spawn")
    todo = [name for name in names if name not in rows]
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for first in range(0, len(todo), options.jobs):
            if time.monotonic() > options.until:
                break
            running = {
                name: pool.submit(_row, name, options.part, options.crops, tuple(options.seconds))
                for name in todo[first : first + options.jobs]
            }
            for name, future in running.items():
                try:
                    rows[name] = future.result()
                except FileNotFoundError as error:
                    say(f"{name}: left out, {error}")
                    continue
                say(robustness_table([rows[name]], options.seconds).splitlines()[-1])
                kept.keep([asdict(row) for row in rows.values()])
    listed = [rows[name] for name in names if name in rows]
    wrong = sum(row.wrong for row in listed)
    return (
        f"{robustness_table(listed, options.seconds)}\n\nShares in % with 95 % intervals; found: "
        f"at a false-alarm probability of {FALSE_ALARM:g}. Tokens read wrongly: {wrong}."
    )


def _kept_rows(kept: Kept, options: argparse.Namespace) -> dict[str, Row]:
    """Rows of an earlier run over the same crops."""
    rows: dict[str, Row] = {}
    for each in kept.rows:
        found, read = (
            {int(length): hits for length, hits in each[what].items()} for what in ("found", "read")
        )
        row = Row(**each | {"found": found, "read": read})
        asked = (options.part, options.crops * SOURCES, options.seconds)
        if (row.part, row.crops, list(row.found)) == asked:
            rows[row.name] = row
    return rows


def _row(name: str, part: int, count: int, seconds: tuple[int, ...]) -> Row:
    """One row, in a process of its own."""
    sources = hosts(part)
    row = measure(attacks(sources[SPEAKERS[1]])[name], sources, count, seconds)
    return replace(row, part=part)


if __name__ == "__main__":
    main()
