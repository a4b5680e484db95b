"""Sums that nobody can read a share of: exact, and refused where a share is missing or of something else."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model_core.privacy.secure_sum import LARGEST, Round, Words, masked, symmetric, triangle, unmasked

SIZE = 500
SITES = ("amsterdam", "berlin", "chur", "dover")
KEYS = {site: X25519PrivateKey.generate() for site in SITES}
RNG = np.random.default_rng(0)
COUNTS = {site: RNG.integers(0, 1_000_000, SIZE).astype(np.float64) for site in SITES}


def asked_of(*sites: str, name: str = "first", subject: str = "counts") -> Round:
    return Round(name, subject, SIZE, {site: KEYS[site].public_key().public_bytes_raw() for site in sites})


ASKED = asked_of(*SITES)


def shares(asked: Round = ASKED) -> dict[str, Words]:
    return dict(masked(COUNTS[site], KEYS[site], asked) for site in asked.sites)


def test_the_sum_is_that_of_all_counts_exactly() -> None:
    assert (unmasked(shares(), ASKED) == sum(COUNTS.values())).all()
    three = asked_of(*SITES[:3])
    assert (unmasked(shares(three), three) == sum(COUNTS[site] for site in SITES[:3])).all()


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float64, (3, 20), elements=st.floats(-1e8, 1e8)))
def test_the_sum_of_any_numbers_is_right_to_the_unit(values: np.ndarray) -> None:
    asked = replace(asked_of(*SITES[:3]), size=20)
    added = unmasked(
        dict(masked(one, KEYS[site], asked) for one, site in zip(values, SITES, strict=False)), asked
    )
    np.testing.assert_allclose(added, values.sum(0), atol=3 / (1 << 24))


def test_a_share_says_nothing_and_no_part_of_the_sites_is_enough() -> None:
    share = shares()["berlin"]
    bits = np.unpackbits(share.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / len(bits) ** 0.5
    again = shares(asked_of(*SITES, name="second"))["berlin"]
    assert not (share == again).any()
    assert not (share == shares(asked_of(*SITES[:3]))["berlin"]).any()
    some = sum(one for site, one in shares().items() if site != "dover")
    wrong = np.abs(some.view(np.int64).astype(np.float64) / (1 << 24))
    assert (wrong > 2.0 * sum(COUNTS.values())).mean() > 0.95


def test_a_site_that_disappeared_is_named_and_nothing_is_read() -> None:
    there = shares()
    del there["chur"]
    with pytest.raises(ValueError, match=r"shares of \['chur'\] are missing.*begin a new round without"):
        unmasked(there, ASKED)
    with pytest.raises(ValueError, match=r"got one of \['essen'\]"):
        unmasked(shares() | {"essen": there["berlin"]}, ASKED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_site_that_counts_nan_is_refused(value: float) -> None:
    broken = COUNTS["berlin"].copy()
    broken[7] = value
    with pytest.raises(ValueError, match="values must be finite, got NaN or infinity"):
        masked(broken, KEYS["berlin"], ASKED)
    not_masked = shares() | {"berlin": broken}
    with pytest.raises(ValueError, match="the share of 'berlin' must be 500 masked numbers"):
        unmasked(not_masked, ASKED)  # type: ignore[arg-type]


def test_shares_of_another_round_key_or_size_do_not_cancel() -> None:
    for other in (asked_of(*SITES, name="second"), asked_of(*SITES, subject="of another model")):
        with pytest.raises(ValueError, match="shares do not cancel"):
            unmasked(shares() | {"berlin": shares(other)["berlin"]}, ASKED)
    with pytest.raises(ValueError, match=r"the share of 'berlin' must be 500 masked numbers, got \(499,\)"):
        unmasked(shares() | {"berlin": shares()["berlin"][1:]}, ASKED)
    with pytest.raises(ValueError, match="the key must be of one of the sites"):
        masked(COUNTS["berlin"], X25519PrivateKey.generate(), ASKED)
    with pytest.raises(ValueError, match=r"values must be 500, got \(499,\)"):
        masked(COUNTS["berlin"][1:], KEYS["berlin"], ASKED)
    with pytest.raises(ValueError, match="values must be at most"):
        masked(np.full(SIZE, 2 * LARGEST), KEYS["berlin"], ASKED)


def test_two_sites_are_too_few_and_a_key_is_one_sites() -> None:
    with pytest.raises(ValueError, match="sites must be at least 3, got 2"):
        asked_of(*SITES[:2])
    key = KEYS["berlin"].public_key().public_bytes_raw()
    with pytest.raises(ValueError, match="must have a key each"):
        Round("r", "s", SIZE, {"a": key, "b": key, "c": KEYS["chur"].public_key().public_bytes_raw()})
    with pytest.raises(ValueError, match="key of site 'a' must be of 32 bytes, got 3"):
        Round("r", "s", SIZE, {"a": b"key", "b": key, "c": KEYS["chur"].public_key().public_bytes_raw()})


def test_a_key_that_is_anothers_in_other_bytes_leaves_no_share_unmasked() -> None:
    sites = {site: ASKED.sites[site] for site in SITES[:2]}
    own = bytearray(sites["amsterdam"])
    own[-1] ^= 0x80  # the highest bit, which X25519 does not read
    asked = Round("r", "s", SIZE, sites | {"zurich": bytes(own)})
    _, share = masked(COUNTS["berlin"], KEYS["berlin"], asked)
    assert (np.abs(share.view(np.int64) / (1 << 24) - COUNTS["berlin"]) > LARGEST).mean() > 0.9


def test_no_name_of_a_site_makes_the_fingerprint_that_of_another_round() -> None:
    asked = asked_of(*SITES)
    a, b, *others = SITES
    swallowed = {f"{a}={asked.sites[a].hex()}\0{b}": asked.sites[b]}
    fewer = replace(asked, sites=swallowed | {site: asked.sites[site] for site in others})
    assert fewer.digest != asked.digest


def test_a_symmetric_matrix_comes_back_from_its_triangle() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    matrix += matrix.T
    assert (symmetric(triangle(matrix), 4) == matrix).all()
