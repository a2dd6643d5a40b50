"""The robustness bench of the watermark: ``make bench-watermark``.

Real speech (four speakers of Asterisk's prompts) and this server's own (a stock voice, and a clone
of one of the four) is marked, attacked in every way of ``watermark_attacks.py``, cut into crops of
so many seconds of active speech, and searched. Printed are the share found at a false-alarm
probability of 1e-6, the share whose token was read, with Wilson's 95 % intervals, and what the
mark costs in quality and time. ``--only goals`` takes many crops of what the goals are about;
``--null N`` instead searches N clips that carry no mark, or another key's; ``--perth`` tries
``resemble-perth`` on the same clips.

Results go to ``build/watermark/`` row by row. ``--resume`` keeps what is there and measures the
rest, ``--minutes`` stops after so long; ``--write FILE`` puts the tables between that file's
markers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from watermark_attacks import RATE, Audio, Case, cases, resampled, to_pcm
from watermark_corpus import OUT, SPEAKERS, hosts, say
from watermark_hosts import KEY, crops, marked, segmental_snr, token_of
from watermark_null import null, null_table
from watermark_perth import perth
from watermark_tables import shown, write_between

from ringtrue.voices.watermark.detector import FALSE_ALARM, Detection, Search, detect
from ringtrue.voices.watermark.embedder import PILOT_SHARE, RATES, Embedder, excitation
from ringtrue.voices.watermark.token import Token, symbols

SECONDS: Final = (1, 2, 3, 6, 10)
TOKEN_SECONDS: Final = (3, 6, 10)
COLLUDERS: Final = (5, 20)
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


@dataclass(frozen=True, slots=True)
class Goal:
    """One of :data:`GOALS`."""

    name: str
    what: str
    seconds: int
    crops: int
    """Of each source."""

    hits: dict[str, int]
    """By source."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A row's name and how it comes about."""

    case: Case
    copies: int = 1
    """How many marked copies of the same speech, from different sessions, are averaged."""

    def heard(self, host: Audio, number: int) -> Audio:
        """``host`` marked as session ``number``, then attacked."""
        if self.copies == 1:
            return self.case.attack(marked(host, token_of(number)))
        total = np.zeros(len(host) // 160 * 160)
        for n in range(self.copies):
            away = 160 * 61 * n
            copy = marked(np.roll(host, away), token_of(100 * (n + 1) + number))
            total += np.roll(copy, -away)
        return total / self.copies

    def right(self, number: int) -> set[Token]:
        """The tokens that may be read from it."""
        if self.copies == 1:
            return {token_of(number)}
        return {token_of(100 * (n + 1) + number) for n in range(self.copies)}


def attacks(caller: Audio) -> dict[str, Attack]:
    """Every row, by name; ``caller`` is who talks over it."""
    listed = [Attack(case) for case in cases(caller)]
    listed += [
        Attack(Case(f"average of {n} marked copies", lambda x: x), copies=n) for n in COLLUDERS
    ]
    listed.append(Attack(Case("pilot subtracted, by its key", without_pilot)))
    return {each.case.name: each for each in listed}


def without_pilot(sent: Audio) -> Audio:
    """As left by who has the detection key and knows where the mark begins."""
    pilot = replace(excitation(KEY, symbols(KEY, token_of(0))), pilot_gain=-math.sqrt(PILOT_SHARE))
    return marked(sent, chips=replace(pilot, data_gain=0.0))


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


def goal(row: Goal, sources: dict[str, Audio], until: float, keep: Callable[[Goal], None]) -> None:
    """Fill in what became of one goal, source by source; ``keep`` gets it after each."""
    attack = attacks(sources[SPEAKERS[1]])[row.name]
    first = Search([KEY], RATE)
    for number, (source, host) in enumerate(sources.items()):
        if source in row.hits or time.monotonic() > until:
            continue
        heard, right = attack.heard(host, number), attack.right(number)
        hits = 0
        for crop in crops(host, heard, row.seconds, row.crops, seed=1000 * number + row.seconds):
            result = searched(crop, first, thorough=False)
            hits += result.found if row.what == "found" else bool(right & set(result.tokens))
        row.hits[source] = hits
        keep(row)


def told(name: str, what: str, seconds: int) -> str:
    """A goal in words."""
    return f"{what} within {seconds} s after {name}"


def goals_table(rows: Sequence[Goal]) -> str:
    """In Markdown."""
    lines = ["| goal: 99 % | reached | crops | least of a source |", "|---|---|---|---|"]
    for row in rows:
        total, crops_all = sum(row.hits.values()), row.crops * len(row.hits)
        least = min(row.hits, key=row.hits.__getitem__)
        label = told(row.name, row.what, row.seconds)
        worst = f"{row.hits[least]} of {row.crops} ({least})" if total < crops_all else "all"
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
    sources = hosts()
    done: dict[str, str] = {}
    names = list(attacks(sources[SPEAKERS[1]]))
    if options.attack:
        names = [name for name in names if any(part in name for part in options.attack)]
    if options.null:
        kept = OUT / "null.json"
        if not options.resume:
            kept.unlink(missing_ok=True)
        done["null"] = null_table(null(options.null, sources, kept, options.until))
    elif options.perth:
        chosen = [case for case in cases(sources[SPEAKERS[1]]) if case.name in names]
        kept = OUT / "perth.json"
        if not options.resume:
            kept.unlink(missing_ok=True)
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
    path = OUT / "goals.json"
    kept = json.loads(path.read_text()) if options.resume and path.exists() else []
    rows = {(row.name, row.what, row.seconds): row for row in (Goal(**each) for each in kept)}

    def keep(row: Goal) -> None:
        rows[row.name, row.what, row.seconds] = row
        say(goals_table([row]).splitlines()[-1])
        found = [asdict(each) for each in rows.values()]
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False))

    for aim in GOALS:
        if options.attack and not any(part in told(*aim) for part in options.attack):
            continue
        row = rows.get(aim)
        if row is None or row.crops != options.crops:
            row = Goal(*aim, options.crops, {})
        goal(row, sources, options.until, keep)
    return goals_table([rows[aim] for aim in GOALS if aim in rows])


def robustness(names: Sequence[str], options: argparse.Namespace) -> str:
    """The large table, in Markdown; every row is kept in a file as soon as it is there."""
    path = OUT / "robustness.json"
    rows = _kept_rows(path, options.seconds) if options.resume else {}
    context = multiprocessing.get_context("spawn")
    todo = [name for name in names if name not in rows]
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for first in range(0, len(todo), options.jobs):
            if time.monotonic() > options.until:
                break
            running = {
                name: pool.submit(_row, name, options.crops, tuple(options.seconds))
                for name in todo[first : first + options.jobs]
            }
            for name, future in running.items():
                try:
                    rows[name] = future.result()
                except FileNotFoundError as error:
                    say(f"{name}: left out, {error}")
                    continue
                say(robustness_table([rows[name]], options.seconds).splitlines()[-1])
                kept = [asdict(row) for row in rows.values()]
                path.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    listed = [rows[name] for name in names if name in rows]
    wrong = sum(row.wrong for row in listed)
    return (
        f"{robustness_table(listed, options.seconds)}\n\nShares in % with 95 % intervals; found: "
        f"at a false-alarm probability of {FALSE_ALARM:g}. Tokens read wrongly: {wrong}."
    )


def _kept_rows(path: Path, seconds: Sequence[int]) -> dict[str, Row]:
    """Rows of an earlier run over the same lengths."""
    rows: dict[str, Row] = {}
    for each in json.loads(path.read_text()) if path.exists() else []:
        each["found"] = {int(length): hits for length, hits in each["found"].items()}
        each["read"] = {int(length): hits for length, hits in each["read"].items()}
        row = Row(**each)
        if list(row.found) == list(seconds):
            rows[row.name] = row
    return rows


def _row(name: str, count: int, seconds: tuple[int, ...]) -> Row:
    """One row, in a process of its own."""
    sources = hosts()
    return measure(attacks(sources[SPEAKERS[1]])[name], sources, count, seconds)


if __name__ == "__main__":
    main()
