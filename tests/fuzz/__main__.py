"""`python -m tests.fuzz --decoder clicks --inputs 1000000`: odd inputs for what decodes them.

Each decoder gets inputs that are made of good ones, by a seed; those that it answers in a new way breed
others. What a kernel reads is held against plain Python. Exit code 1: something was found; see build/fuzz.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz import doors, mappings, rows, topics
from tests.fuzz.engine import Outcome, fuzz

TARGETS = topics.TARGETS | mappings.TARGETS | rows.TARGETS | doors.TARGETS
TOLD_S = 30.0


def main(arguments: list[str]) -> int:
    """Fuzz the decoders that are named; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[2]
    )
    parser.add_argument(
        "--decoder", action="append", choices=sorted(TARGETS), help="several times; all without"
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="for each decoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    options = parser.parse_args(arguments)
    found = 0
    for name in options.decoder or TARGETS:
        told, n_shown = time.monotonic(), 0

        def tell(outcome: Outcome, name: str = name) -> None:
            nonlocal told, n_shown
            for value, words in outcome.findings[n_shown:]:  # at once: a long run may be ended
                show(options.out, name, value, words)
            n_shown = len(outcome.findings)
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                print(
                    f"{name}: {outcome.inputs:,} inputs, {outcome.answers:,} kinds of answer ...", flush=True
                )

        outcome = fuzz(TARGETS[name](), inputs=options.inputs, seed=options.seed, tell=tell)
        print(
            f"{name}: {outcome.inputs:,} inputs in {outcome.seconds:.0f} s, {outcome.answers:,} kinds of "
            f"answer, {len(outcome.findings)} found",
            flush=True,
        )
        found += len(outcome.findings)
    return 1 if found else 0


def show(folder: Path, name: str, value: bytes, words: str) -> None:
    """Write an input that a decoder did not bear into a folder, and say what the decoder did."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(value).hexdigest()[:12]}.bin"
    path.write_bytes(value)
    print(f"  {path}: {words[:400]}\n  {value[:200]!r}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
