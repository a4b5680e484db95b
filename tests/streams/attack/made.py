"""Data for attacks."""

from pathlib import Path

import numpy as np


def write_shop(parent: Path) -> Path:
    """Write a log of 60 users who like one of three kinds of 87 items, the first ones the most."""
    folder = parent / "shop"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for n in range(3_000):
        user = int(rng.integers(60))
        item = 3 * int(29 * rng.random() ** 3) + user % 3
        lines.append(f"u{user}\ti{item}\t5\t{1_000_000_000 + 600 * n}")
    (folder / "shop.inter").write_text("\n".join(lines) + "\n")
    return folder
