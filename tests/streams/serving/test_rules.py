import numpy as np

from streams.learning.policy_set import rules_of
from streams.serving.rules import RuleColumns
from streams.settings import load_settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from tests.streams.state.test_catalogue import NOW, described

DAY = 86_400_000


def catalogue() -> Catalogue:
    items = Catalogue(ItemIndex())
    items.apply(
        [
            described("a", attributes={"genre": ["Drama", "War"], "by": ["Ann"]}, published_ms=NOW - DAY),
            described("b", attributes={"genre": ["War"], "by": ["Ann"]}, published_ms=NOW - 30 * DAY),
            described("c", attributes={}, published_ms=None),
        ]
    )
    return items


def test_candidates_are_told_apart_by_vector_group_and_age() -> None:
    settings = load_settings(
        policy="diverse-softmax", diversity=0.5, group_relation="genre", fresh_share=0.1, fresh_ms=7 * DAY
    )
    rows = np.array([[0, 1, 2], [2, 1, -1]])
    vectors = np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]], np.float32)
    columns = RuleColumns(settings, catalogue()).of(rows, vectors, np.array([NOW, NOW]))
    np.testing.assert_allclose(columns["vectors"][0], [[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]], rtol=1e-6)
    groups = [{value for value in of if value >= 0} for of in columns["groups"].reshape(6, -1).tolist()]
    assert [len(of) for of in groups] == [2, 1, 0, 0, 1, 0]
    assert groups[1] < groups[0]
    assert groups[4] == groups[1]
    assert columns["fresh"][0].tolist() == [True, False, False]


def test_rules_that_are_not_in_force_cost_nothing() -> None:
    rows, vectors = np.zeros((1, 1), np.int64), np.ones((1, 2), np.float32)
    assert RuleColumns(load_settings(), catalogue()).of(rows, vectors, np.array([NOW])) == {}
    assert (
        RuleColumns(load_settings(policy="diverse-softmax"), catalogue()).of(rows, vectors, np.array([NOW]))
        == {}
    )
    assert rules_of(load_settings(policy="diverse-softmax")).cap is None
    assert rules_of(load_settings(group_relation="genre", group_cap=3)).cap == 3


def test_an_attribute_that_no_item_has_groups_nothing() -> None:
    settings = load_settings(policy="diverse-softmax", group_relation="colour")
    columns = RuleColumns(settings, catalogue()).of(
        np.array([[0, 1]]), np.ones((3, 2), np.float32), np.array([NOW])
    )
    assert (columns["groups"] == -1).all()
