"""What it costs to count together: ML-100K's users at several sites, pairs of liked items as masked sums.

    python -m tests.benchmarks.federated --sites 3 --sites 10

Users are dealt to sites at random. Printed are whether the sum of the masked shares is what one site with all
users counts, to the last digit; seconds of the processor for a share and for the sum; and how far from random
a share is: the share of its bits that are set, and its correlation with what it hides.
"""

import time
from typing import Annotated

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from model_core.privacy.counts import pair_counts
from model_core.privacy.secure_sum import Round, masked, symmetric, triangle, unmasked
from tests.benchmarks.inputs import DataFolder, faults_told, read_data


def main(
    data: DataFolder = None,
    sites: Annotated[list[int] | None, typer.Option(min=3, help="Repeatable.")] = None,
    seed: int = 0,
) -> None:
    """Deal the users, mask, add up, compare."""
    log = read_data(data).interactions
    liked = log[log.ratings >= 4]
    (names, users), (_, items) = (
        np.unique(ids, return_inverse=True) for ids in (liked.user_ids, liked.item_ids)
    )
    n_items = int(items.max()) + 1
    central = pair_counts(users, items, n_items)
    print(f"{len(names)} users, {n_items} items, {len(users)} likes, seed {seed}")
    for n in sites or [3]:
        site_of = np.random.default_rng(seed).permutation(len(names)) % n
        keys = [X25519PrivateKey.generate() for _ in range(n)]
        public = {f"site {s}": key.public_key().public_bytes_raw() for s, key in enumerate(keys)}
        asked = Round("benchmark", "pairs", n_items * (n_items + 1) // 2, public)
        counts = [
            triangle(pair_counts(users[at], items[at], n_items))
            for at in (site_of[users] == s for s in range(n))
        ]
        begun = time.process_time()
        shares = dict(masked(one, key, asked) for one, key in zip(counts, keys, strict=True))
        masking, begun = (time.process_time() - begun) / n, time.process_time()
        total = symmetric(unmasked(shares, asked), n_items)
        adding = time.process_time() - begun
        share = shares["site 0"]
        bits = np.unpackbits(share.view(np.uint8)).mean()
        hidden = np.corrcoef(share.astype(np.float64), counts[0])[0, 1]
        print(
            f"{n} sites: equal to the central sum: {bool((total == central).all())}; share of "
            f"{share.nbytes / 1e6:.1f} MB in {masking:.2f} s, sum in {adding:.2f} s; "
            f"bits set {bits:.5f}, correlation {hidden:+.5f} (chance: ± {2 / len(share) ** 0.5:.5f})"
        )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
