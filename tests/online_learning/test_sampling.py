import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from online_learning.sampling import gumbels, mix, uniforms, words
from online_learning.sampling_kernels import fill_normals, normal_pair, start_of, word

SEEDS = np.arange(200, dtype=np.uint64)


def normals(seeds: np.ndarray, n: int, *, stream: int) -> np.ndarray:
    """(B, n) of what the kernels draw."""
    drawn = np.empty((len(seeds), 2, (n + 1) // 2), np.float32)
    for row, seed in enumerate(seeds):
        fill_normals(np.uint64(start_of(seed, stream)), 0, drawn[row, 0], drawn[row, 1])
    return drawn.swapaxes(1, 2).reshape(len(seeds), -1)[:, :n]


GENERATORS = [words, uniforms, gumbels, normals]
uint64 = st.integers(0, 2**64 - 1)


def test_mix_is_splitmix64() -> None:
    # The first outputs of the reference generator seeded with 1234567.
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + i * golden) % 2**64 for i in (1, 2, 3)], np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert mix(states).tolist() == expected


@pytest.mark.parametrize("generate", GENERATORS)
@given(seeds=st.lists(uint64, min_size=1, max_size=5), n=st.integers(0, 9), stream=st.integers(0, 9))
def test_numbers_are_a_function_of_seed_stream_and_counter(generate, seeds, n, stream) -> None:
    column = np.array(seeds, np.uint64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # arithmetic modulo 2**64 is meant to wrap, silently
        together = generate(column, n, stream=stream)
    assert together.shape == (len(seeds), n)
    assert column.tolist() == seeds
    longer = generate(column, n + 4, stream=stream)
    assert np.array_equal(longer[:, :n], together)
    for row in range(len(seeds)):
        assert np.array_equal(generate(column[row : row + 1], n, stream=stream)[0], together[row])


def test_seeds_that_differ_by_the_increment_share_no_words() -> None:
    golden = 0x9E3779B97F4A7C15
    seeds = np.array([(5 + i * golden) % 2**64 for i in range(50)], np.uint64)
    assert len(np.unique(words(seeds, 50, stream=0))) == 50 * 50


def test_streams_and_seeds_share_no_words() -> None:
    drawn = np.concatenate([words(SEEDS, 50, stream=stream) for stream in range(5)])
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("axis", ["counter", "seed", "stream"])
@pytest.mark.parametrize(
    ("generate", "distribution"),
    [(uniforms, stats.uniform), (gumbels, stats.gumbel_r), (normals, stats.norm)],
)
def test_numbers_follow_their_distribution_along_each_axis(generate, distribution, axis) -> None:
    n = 100_000
    if axis == "counter":
        drawn = generate(SEEDS[3:4], n, stream=1)[0]
    elif axis == "seed":
        drawn = generate(np.arange(n, dtype=np.uint64), 3, stream=1)[:, 2]
    else:
        drawn = np.concatenate([generate(SEEDS[:100], 10, stream=s).ravel() for s in range(100)])
    assert stats.kstest(drawn, distribution.cdf).pvalue > 1e-3
    assert np.abs(stats.zscore(drawn[1:]) @ stats.zscore(drawn[:-1])) < 4 * np.sqrt(n)


def test_every_bit_of_the_words_is_fair_and_independent_of_the_others() -> None:
    drawn = words(np.arange(20_000, dtype=np.uint64), 1, stream=3)[:, 0]
    bits = (drawn[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    signs = 2.0 * bits - 1.0
    products = signs.T @ signs / np.sqrt(len(signs))
    assert np.abs(signs.sum(axis=0)).max() < 4.5 * np.sqrt(len(signs))
    assert np.abs(products[~np.eye(64, dtype=bool)]).max() < 5.5


def test_words_of_neighbouring_seeds_differ_in_half_their_bits() -> None:
    drawn = words(np.arange(20_001, dtype=np.uint64), 1, stream=0)[:, 0]
    flipped = np.bitwise_count(drawn[1:] ^ drawn[:-1])
    assert abs(flipped.mean() - 32.0) < 4 * 4.0 / np.sqrt(20_000)


def test_uniforms_reach_neither_end(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = np.array([[0, 2**64 - 1]], np.uint64)
    monkeypatch.setattr("online_learning.sampling.words", lambda *_, **__: extremes)
    low, high = uniforms(SEEDS[:1], 2, stream=0)[0]
    assert 0.0 < low < 1e-15
    assert 1.0 - 1e-15 < high < 1.0
    assert np.isfinite(gumbels(SEEDS[:1], 2, stream=0)).all()
    for high in (0, 2**32 - 1):
        for low in (0, 2**32 - 1):
            assert np.isfinite(normal_pair(np.uint32(high), np.uint32(low))).all()


def test_compiled_loops_draw_the_same_words() -> None:
    starts = [np.uint64(start_of(seed, 3)) for seed in SEEDS[:20]]
    drawn = [[word(start, at) for at in range(5)] for start in starts]
    assert drawn == words(SEEDS[:20], 5, stream=3).tolist()


def test_normals_can_be_drawn_from_anywhere_in_their_stream() -> None:
    start, whole, part = (
        np.uint64(start_of(np.uint64(9), 1)),
        np.empty((2, 20), np.float32),
        np.empty((2, 7), np.float32),
    )
    fill_normals(start, 0, whole[0], whole[1])
    fill_normals(start, 5, part[0], part[1])
    assert np.array_equal(part, whole[:, 5:12])


def test_the_tails_of_normals_are_those_of_the_distribution() -> None:
    drawn = np.abs(normals(SEEDS, 50_000, stream=2))
    for reach in (3.0, 4.0, 5.0):
        expected = 2.0 * stats.norm.sf(reach) * drawn.size
        assert abs((drawn > reach).sum() - expected) < 4.0 * np.sqrt(expected)


def test_the_two_normals_of_a_pair_are_independent() -> None:
    pairs = normals(SEEDS, 2_000, stream=1).reshape(-1, 2)
    n = len(pairs)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 4 / np.sqrt(n)
