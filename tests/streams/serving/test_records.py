"""What was selected becomes slates: looked up for a whole batch, each slate with arrays of its own."""

import numpy as np

from model_core.release.scorer import Scores
from streams.learning.routes import Route, Selection
from streams.serving.records import chosen_slates, shown
from streams.state.item_index import ItemIndex
from streams.why.slate_reasons import Why

B, C, F = 3, 6, 4


def scored() -> Scores:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(C) for _ in range(B)]).astype(np.int64)
    return Scores(
        rows=rows,
        valid=np.ones((B, C), np.bool_),
        scores=rng.random((B, C), np.float32),
        logits=np.zeros((B, C, 1), np.float32),
        features=rng.random((B, C, F), np.float32),
    )


def selected() -> Selection:
    """A whole slate, a shorter one and none, cut out of wider arrays as below what is pinned."""
    index = np.array([[3, 0, 5, 9], [2, 1, -1, 9], [-1, -1, -1, 9]])[:, :3]
    return Selection(
        index=index,
        propensities=np.where(index >= 0, np.float32(0.5), np.float32(0)),
        versions=np.array([7, 8, 9]),
        teams=np.full(index.shape, -1, np.int8),
        tried=np.array([1, -1, -1]),
    )


def test_what_is_shown_is_looked_up_by_position_and_there_is_no_row_where_a_slate_has_ended():
    scores, selection = scored(), selected()
    found = shown(scores, selection)
    assert found.sizes.tolist() == [3, 2, 0]
    for b in range(B):
        at = selection.index[b][: found.sizes[b]]
        np.testing.assert_array_equal(found.rows[b, : len(at)], scores.rows[b, at])
        np.testing.assert_array_equal(found.scores[b, : len(at)], scores.scores[b, at])
        np.testing.assert_array_equal(found.features[b, : len(at)], scores.features[b, at])
        assert (found.rows[b, len(at) :] == -1).all()


def test_a_slate_has_what_was_shown_and_keeps_nothing_of_its_batch():
    scores, selection, index = scored(), selected(), ItemIndex()
    index.rows_of([f"i{row}" for row in range(C)])
    found = shown(scores, selection)
    slates = chosen_slates(
        found,
        selection,
        [[Why(["new"], []) for _ in range(3)] for _ in range(B)],
        shadows={"greedy": np.full(selection.index.shape, 0.25, np.float32)},
        routes=[Route(policies=())] * B,
        fallbacks=[None, "all_seen", None],
        index=index,
        model_version="m",
        events=np.array([5, 0, 2]),
    )
    assert [[item.item_id for item in one.slate] for one in slates] == [
        [f"i{row}" for row in scores.rows[0, [3, 0, 5]]], [f"i{row}" for row in scores.rows[1, [2, 1]]], [],
    ]  # fmt: skip
    assert [item.position for item in slates[0].slate] == [0, 1, 2]
    assert [one.fallback for one in slates] == [None, "all_seen", "no_candidates"]
    assert [one.policy_version for one in slates] == [7, 8, 9]
    assert [one.events for one in slates] == [5, 0, 2]
    assert [one.tried for one in slates] == [f"i{scores.rows[0, 0]}", None, None]
    assert [one.shadows["greedy"] for one in slates] == [[0.25] * 3, [0.25] * 2, []]
    for b, one in enumerate(slates):
        np.testing.assert_array_equal(one.features, found.features[b, : len(one.slate)])
        assert not np.shares_memory(one.features, found.features)
