"""`python -m tests.fuzz.guided --decoder requests --inputs 1000000`: inputs guided by the lines they reach.

libFuzzer makes them, through atheris: one that reaches a new branch of this project's Python breeds others,
in later runs, too. A compiled kernel counts as one line; `python -m tests.fuzz` is guided by how those
answer. The exit code is 0 if nothing was found; else see build/fuzz.
"""

import argparse
import re
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
OURS = ("streams", "model_core", "online_learning")
COMPILED = re.compile(r"^(@(njit|inner|compiled|contracted)|import numba|from numba)\b", re.MULTILINE)


def compiled_modules() -> list[str]:
    """Names of modules with kernels: what atheris adds to functions, numba does not compile."""
    files = [path for package in OURS for path in (ROOT / package).rglob("*.py")]
    compiled = [path for path in files if COMPILED.search(path.read_text())]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in compiled]


with atheris.instrument_imports(include=list(OURS), exclude=compiled_modules()):
    from tests.fuzz.__main__ import TARGETS, show


def main(arguments: list[str]) -> None:
    """Fuzz one decoder; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.guided", description=(__doc__ or "").partition("\n")[2]
    )
    parser.add_argument("--decoder", choices=sorted(TARGETS), required=True)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    options = parser.parse_args(arguments)
    target = TARGETS[options.decoder]()

    def check(value: bytes) -> None:
        try:
            target.check([value])
        except Exception as error:
            show(options.out, options.decoder, value, repr(error))
            raise

    corpus = options.out / "corpus" / options.decoder
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-runs={options.inputs}", f"-seed={options.seed}", "-max_len=65536", "-rss_limit_mb=0"]
    if target.words:
        words = corpus.with_suffix(".dict")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words if word))
        flags.append(f"-dict={words}")
    flags.append(f"-artifact_prefix={options.out}/")
    atheris.Setup([sys.argv[0], *flags, str(corpus)], check)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1:])
