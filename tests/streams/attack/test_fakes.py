"""What fakes do."""

import numpy as np
import pytest

from streams.attack.fakes import KINDS, Known, fakes, unpopular_targets

N = 200
KNOWN = Known(
    popularity=np.arange(N, 0, -1) // 4,
    groups=[frozenset({f"g{row % 5}"}) for row in range(N)],
    pasts=[np.array([3, 7, 11]), np.array([9, 11])],
)
TARGETS = np.array([150, 151, 155])


@pytest.mark.parametrize("kind", KINDS)
def test_every_fake_pushes_every_target_among_other_items(kind):
    made = fakes(kind, KNOWN, TARGETS, n=4, events=40, rng=np.random.default_rng(0))
    again = fakes(kind, KNOWN, TARGETS, n=4, events=40, rng=np.random.default_rng(0))

    assert len(made) == 4
    for row, same in zip(made, again, strict=True):
        assert len(row) == 40
        assert set(TARGETS.tolist()) < set(row.tolist())
        assert np.isin(row, TARGETS).mean() >= (0.5 if kind == "decoy" else 0.25)
        assert row.min() >= 0
        assert row.max() < N
        np.testing.assert_array_equal(row, same)


def fillers(kind):
    made = np.concatenate(fakes(kind, KNOWN, TARGETS, n=20, events=100, rng=np.random.default_rng(0)))
    return made[~np.isin(made, TARGETS)]


def test_fillers_are_what_the_attack_is_named_for():
    assert np.isin(fillers("decoy"), KNOWN.popular).all()
    assert 0.4 < np.isin(fillers("bandwagon"), KNOWN.popular).mean() < 0.65
    assert np.isin(fillers("random"), KNOWN.popular).mean() < 0.1
    assert np.isin(fillers("segment") % 5, TARGETS % 5).all()
    assert KNOWN.popularity[fillers("average")].mean() > 1.2 * KNOWN.popularity[fillers("random")].mean()
    # Item 11 is the latest of two users, and the derivative of the latest is the largest.
    found, times = np.unique(fillers("gradient"), return_counts=True)
    assert found[np.argmax(times)] == 11


def test_targets_are_of_the_rarer_half_of_what_somebody_likes():
    found = unpopular_targets(KNOWN, 5, np.random.default_rng(0))

    assert len(set(found.tolist())) == 5
    assert KNOWN.popularity[found].min() > 0
    assert KNOWN.popularity[found].max() <= np.median(KNOWN.popularity)


def test_what_cannot_be_is_refused():
    nobody = Known(np.array([1, 0, 0]), [frozenset()] * 3, [])
    with pytest.raises(
        ValueError, match="targets must be at most the 1 items that somebody has liked, got 2"
    ):
        unpopular_targets(nobody, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="kind must be one of random, average, .*, got 'rude'"):
        fakes("rude", KNOWN, TARGETS, n=1, events=1, rng=np.random.default_rng(0))
