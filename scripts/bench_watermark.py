"""The robustness bench of the watermark: ``make bench-watermark``.

Real speech (four speakers of Asterisk's prompts) and this server's own (a stock voice, and a clone
of one of the four) is marked, attacked in every way of ``watermark_attacks.py``, cut into crops of
so many seconds of active speech, and searched. Printed are the share found at a false-alarm
probability of 1e-6, the share whose token was read, with Wilson's 95 % intervals, what the mark
costs in quality and time, and, if the package is there, what ``resemble-perth`` does on the same
clips. ``--null N`` instead searches N clips that carry no mark, or another key's.

Results go to ``build/watermark/``; ``--write FILE`` puts the tables between that file's markers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from watermark_attacks import RATE, Audio, Case, cases, resampled, to_pcm
from watermark_corpus import OUT, SPEAKERS, active, hosts, say

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.detector import FALSE_ALARM, detect
from ringtrue.voices.watermark.embedder import RATES, STRENGTH, Bank, Embedder, excitation
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.token import Token, symbols
from ringtrue.voices.watermark.tracking import Follower, Pilot, Segments

KEY: Final = MarkKey(b"of the robustness bench alone...")
BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS: Final = (1, 2, 3, 6, 10)
TOKEN_SECONDS: Final = (3, 6, 10)
COLLUDERS: Final = 5
MARKS: Final = "<!-- measured: {} -->", "<!-- end of measured: {} -->"


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


def token_of(number: int) -> Token:
    """The token of the bench's session ``number``."""
    return Token(0x1000 + number, BEGUN)


def marked(host: Audio, token: Token, key: MarkKey = KEY, strength: float = STRENGTH) -> Audio:
    """``host`` as a gate sends it."""
    embedder = Embedder(excitation(key, symbols(key, token)), RATE, strength=strength)
    pcm = to_pcm(host[: len(host) // 160 * 160]).reshape(-1, 160)
    sent = b"".join(embedder.mark(frame.tobytes()) for frame in pcm)
    return np.frombuffer(sent, "<i2").astype(np.float64)


def crops(host: Audio, attacked: Audio, seconds: float, count: int, seed: int) -> Iterator[Audio]:
    """Parts of ``attacked`` that held so many seconds of active speech in ``host``."""
    rng = np.random.default_rng(seed)
    ratio = len(attacked) / len(host)
    sums = np.concatenate([[0.0], np.cumsum(active(host))]) * 0.02
    last = int(np.searchsorted(sums, sums[-1] - seconds)) - 1
    for _ in range(count):
        first = int(rng.integers(0, max(1, last)))
        end = int(np.searchsorted(sums, sums[first] + seconds))
        first, end = first * 160 + int(rng.integers(0, 160)), end * 160 + 160
        yield attacked[int(first * ratio) : int(end * ratio)]


def attacked(case: Case, host: Audio, number: int) -> Audio:
    """``host`` marked as session ``number``, then attacked."""
    if case.name.startswith("average of"):
        copies = [
            marked(np.roll(host, 160 * 61 * n), token_of(100 * n + number))
            for n in range(COLLUDERS)
        ]
        return np.mean([np.roll(copy, -160 * 61 * n) for n, copy in enumerate(copies)], axis=0)
    return case.attack(marked(host, token_of(number)))


def measure(case: Case, sources: dict[str, Audio], count: int, seconds: Sequence[int]) -> Row:
    """One row, ``count`` crops of every source."""
    found = dict.fromkeys(seconds, 0)
    read = dict.fromkeys([each for each in TOKEN_SECONDS if each in seconds], 0)
    wrong = crop_count = 0
    levels = []
    for number, host in enumerate(sources.values()):
        heard = attacked(case, host, number)
        if len(heard) == len(host):
            levels.append(segmental_snr(host, heard))
        crop_count += count
        for length in seconds:
            for crop in crops(host, heard, length, count, seed=1000 * number + length):
                result = detect(to_pcm(crop), RATE, [KEY], thorough=case.thorough)
                found[length] += result.found
                right = {token_of(number)}
                if case.name.startswith("average of"):
                    right = {token_of(100 * n + number) for n in range(COLLUDERS)}
                if length in read:
                    read[length] += bool(right & set(result.tokens))
                wrong += len(set(result.tokens) - right)
    level = float(np.mean(levels)) if levels else 0.0
    return Row(case.name, crop_count, found, read, wrong, level)


def segmental_snr(clear: Audio, other: Audio) -> float:
    """Mean over active frames of speech against difference, each limited to −10 … 60 dB."""
    size = min(len(clear), len(other)) // 160 * 160
    speech, error = clear[:size].reshape(-1, 160), (other[:size] - clear[:size]).reshape(-1, 160)
    which = active(clear[:size])
    ratio = (speech[which] ** 2).mean(axis=1) / ((error[which] ** 2).mean(axis=1) + 1e-2)
    return float(np.clip(10 * np.log10(ratio + 1e-9), -10, 60).mean())


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.96
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def shown(hits: int, count: int) -> str:
    """A share in % with its interval."""
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.0f} ({100 * low:.0f}–{100 * high:.0f})"


def robustness_table(rows: Sequence[Row], seconds: Sequence[int]) -> str:
    """In Markdown."""
    read = [each for each in TOKEN_SECONDS if each in seconds]
    heads = [f"found {each} s" for each in seconds] + [f"token {each} s" for each in read]
    lines = ["| after | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [shown(row.found[each], row.crops) for each in seconds]
        cells += [shown(row.read[each], row.crops) for each in read]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
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
        clear = to_pcm(host[: 20 * RATE]).astype(np.float64)
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
        bank = Bank(rate, 100)
        legs = np.array([bank.join(chips) for _ in range(100)])
        frames = np.ascontiguousarray(pcm[100:200])
        many = fastest(lambda: bank.mark(legs, frames)) / 100  # noqa: B023
        lines.append(f"| a frame of 20 ms at {rate} Hz, alone | {1e6 * each:.1f} µs |")
        lines.append(f"| a frame at {rate} Hz, among 100 legs | {1e6 * many:.1f} µs |")
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


def perth(case_list: Sequence[Case], sources: dict[str, Audio], count: int) -> str:
    """``resemble-perth`` on the same clips, at an empirical false-alarm rate; in Markdown."""
    from importlib.resources import files

    shim = types.ModuleType("pkg_resources")  # which newer setuptools don't have
    shim.resource_filename = lambda package, name: str(files(package) / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", shim)
    import torch
    from perth import PerthImplicitWatermarker  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    marker = PerthImplicitWatermarker()
    lines = ["| after | found 3 s, at a measured 1 % of false alarms |", "|---|---|"]

    def scores(case: Case, samples: dict[str, Audio]) -> list[float]:
        found = []
        for number, (name, host) in enumerate(samples.items()):
            heard = case.attack(host)
            for crop in crops(sources[name], heard, 3, count, seed=1000 * number + 3):
                wide = resampled(crop / 32768, RATE, 16000).astype(np.float32)
                bits = marker.get_watermark(wide, 16000, round=False)
                found.append(float(np.mean(bits)))
        return found

    sent = {}
    for name, host in sources.items():
        wide = resampled(host / 32768, RATE, 16000).astype(np.float32)
        back = marker.apply_watermark(wide, sample_rate=16000)
        sent[name] = resampled(np.asarray(back, np.float64), 16000, RATE)[: len(host)] * 32768
    for case in case_list:
        clear, with_mark = np.array(scores(case, sources)), np.array(scores(case, sent))
        hits = int((with_mark > np.quantile(clear, 0.99)).sum())
        lines.append(f"| {case.name} | {shown(hits, len(with_mark))} |")
        say(lines[-1])
    return "\n".join(lines)


def null(count: int, sources: dict[str, Audio], seed: int) -> dict[str, Any]:
    """Search clips of 2 s that carry no mark of the key; how small their bounds were."""
    rng = np.random.default_rng(seed)
    case_list = [case for case in cases(sources[SPEAKERS[1]]) if case.name in _NULL_CASES]
    clips: list[Segments] = []
    for case in case_list:
        for number, host in enumerate(sources.values()):
            for with_mark in (False, True):
                heard = case.attack(marked(host, token_of(number)) if with_mark else host)
                for crop in crops(host, heard, 2, 5, seed=seed + number):
                    carrier = whitened(crop)
                    clips.append(Segments(carrier, half_a_chip_on(carrier)))
    follower = Follower()
    bounds: list[float] = []
    result: dict[str, Any] = {}
    while len(bounds) < count:
        pilot = Pilot(MarkKey(rng.bytes(32)).detection)
        for clip in clips:
            top = float(follower.follow(pilot, clip).evidence.max())
            bounds.append(min(1.0, math.exp(-top)))
        say(f"null: {len(bounds)} of {count} clips, smallest bound {min(bounds):.1e}")
        result = {
            "clips": len(bounds),
            "smallest": min(bounds),
            "share": {
                f"1e-{k}": sum(each <= 10**-k for each in bounds) / len(bounds) for k in range(1, 7)
            },
        }
        (OUT / "null.json").write_text(json.dumps(result, indent=1))
    return result


_NULL_CASES: Final = ("nothing", "G.711 µ-law", "Opus 12k", "AMR 12.2", "caller over it, 0 dB")


def null_table(result: dict[str, Any]) -> str:
    """In Markdown."""
    lines = ["| bound at or below | allowed share | share of clips |", "|---|---|---|"]
    for level, share in result["share"].items():
        lines.append(f"| {level} | {float(level):.4%} | {share:.4%} |")
    lines.append("")
    lines.append(f"{result['clips']} clips; the smallest bound was {result['smallest']:.1e}.")
    return "\n".join(lines)


def write_between(path: Path, section: str, text: str) -> None:
    """Put ``text`` between a file's markers of ``section``."""
    begin, end = (mark.format(section) for mark in MARKS)
    document = path.read_text("utf-8")
    if begin not in document or end not in document:
        raise SystemExit(f"{path}: no markers {begin} … {end}")
    head, _, rest = document.partition(begin)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", "utf-8")


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
    parser.add_argument("--only", choices=("robustness", "quality", "speed"), action="append")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for and print it."""
    options = arguments()
    OUT.mkdir(parents=True, exist_ok=True)
    sources = hosts()
    done: dict[str, str] = {}
    chosen = [
        *cases(sources[SPEAKERS[1]]),
        Case(f"average of {COLLUDERS} marked copies", lambda x: x),
    ]
    if options.attack:
        chosen = [case for case in chosen if any(part in case.name for part in options.attack)]
    if options.null:
        result = null(options.null, sources, seed=7)
        done["null"] = null_table(result)
    elif options.perth:
        done["perth"] = perth(
            [case for case in chosen if not case.name.startswith("average")], sources, options.crops
        )
    else:
        wanted = options.only or ("robustness", "quality", "speed")
        if "speed" in wanted:
            done["speed"] = speed(sources)
        if "quality" in wanted:
            done["quality"] = quality(sources)
        if "robustness" in wanted:
            done["robustness"] = robustness(chosen, sources, options)
    for section, text in done.items():
        print(f"\n## {section}\n\n{text}")
        if options.write is not None:
            write_between(options.write, section, text)


def robustness(
    chosen: Sequence[Case], sources: dict[str, Audio], options: argparse.Namespace
) -> str:
    """The large table, in Markdown; every row is kept in a file as soon as it is there."""
    names = [case.name for case in chosen]
    rows: dict[str, Row] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        running = {
            name: pool.submit(_row, name, options.crops, tuple(options.seconds)) for name in names
        }
        for name, future in running.items():
            try:
                rows[name] = future.result()
            except FileNotFoundError as error:
                say(f"{name}: left out, {error}")
                continue
            say(robustness_table([rows[name]], options.seconds).splitlines()[-1])
            kept = [asdict(row) for row in rows.values()]
            (OUT / "robustness.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    wrong = sum(row.wrong for row in rows.values())
    table = robustness_table(list(rows.values()), options.seconds)
    crops_each = next(iter(rows.values())).crops if rows else 0
    return (
        f"{table}\n\nShares in % with 95 % intervals, of {crops_each} crops each; found: at a "
        f"false-alarm probability of {FALSE_ALARM:g}. Tokens read wrongly: {wrong}."
    )


def _row(name: str, count: int, seconds: tuple[int, ...]) -> Row:
    """One row, in a process of its own."""
    sources = hosts()
    if name.startswith("average of"):
        return measure(Case(name, lambda x: x), sources, count, seconds)
    case = next(each for each in cases(sources[SPEAKERS[1]]) if each.name == name)
    return measure(case, sources, count, seconds)


if __name__ == "__main__":
    main()
