"""Fuzz one target for a bounded time: ``python -m fuzzing.run TARGET CORPUS SECONDS``.

Without arguments it lists the targets.

Coverage-guided, by atheris (libFuzzer). A crash ends it with a status other than 0, the input
that did it in ``tests/fuzzing/regressions/TARGET-…``: mend the parser and keep the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ringtrue.telephony", "aioice"]):
    from fuzzing.targets import TARGETS

MAX_BYTES = 8192


def main() -> None:
    """Run what the command line names."""
    if len(sys.argv) == 1:
        print(*TARGETS, sep="\n")
        return
    name, corpus, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    regressions = Path(__file__).parent / "regressions"
    for past in regressions.glob(f"{name}-*"):
        (corpus / past.name).write_bytes(past.read_bytes())
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES}",
            f"-artifact_prefix={regressions}/{name}-",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ],
        target.feed,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
