"""`python -m streams.bench.generator`: a load generator.

It reads one JSON line that says what to send, prints "ready", waits for a line with the moment to begin
(`time.monotonic`, which processes of one machine share), and prints its figures as one JSON line when it is
done. What it imports is little, for many are started: neither settings nor kernels.
"""

import sys

import msgspec

from streams.bench.work import Work


def main() -> None:
    """Be a generator."""
    work = msgspec.json.decode(sys.stdin.readline(), type=Work)
    if work.kind == "http":
        from streams.bench.load_http import generate
    elif work.kind == "clicks":
        from streams.bench.load_clicks import generate
    else:
        from streams.bench.load_kafka import generate

    def begin() -> float:
        print("ready", flush=True)
        return float(sys.stdin.readline())

    print(msgspec.json.encode(generate(work, begin)).decode(), flush=True)


if __name__ == "__main__":
    main()
