"""What items require, against the rule said one by one."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.pasts import Pasts
from streams.state import prerequisites
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex, key_of
from streams.state.item_rows import encode_deletion, encode_item_state
from streams.state.prerequisites import NO_ITEM, Prerequisites, dead_ends

VIEW, COMPLETE = 0, 1


class Courses:
    """A catalogue whose items require others."""

    def __init__(self, attribute="requires"):
        self.index = ItemIndex()
        self.catalogue = Catalogue(self.index)
        self.prerequisites = Prerequisites(self.catalogue, self.index, attribute, np.array([False, True]))
        self._offset = 0

    def put(self, name, *requires, deleted=False):
        self._offset += 1
        value = (
            encode_deletion(content_id=name, partition=0, offset=self._offset)
            if deleted
            else encode_item_state(
                content_id=name, title=name, text=None, image=None, audio=None, triples=[],
                attributes={"requires": list(requires), "by": ["a", "b"]}, available=True, published_ms=None,
                expires_ms=None, partition=0, offset=self._offset,
            )
        )  # fmt: skip
        record = SimpleNamespace(key=name.encode(), value=value, timestamp=1)
        self.prerequisites.changed(self.catalogue.apply([record]))

    def opened(self, *done, action=COMPLETE):
        rows = self.prerequisites.opened(self.past(*done, action=action))
        return None if rows is None else [self.index.ids[row] for row in rows[0].tolist()]

    def past(self, *done, action=COMPLETE):
        n = len(done)
        actions = np.full(n, action, np.uint8)
        return Pasts(np.array([0, n]), self.index.rows_of(done), actions, actions > 0, np.zeros(n, np.int64))

    def gated(self):
        gated = self.prerequisites.gated(len(self.index))
        return None if gated is None else [self.index.ids[row] for row in np.flatnonzero(gated).tolist()]

    def dead_ends(self):
        return {self.index.ids[row]: why for row, why in self.prerequisites.dead_ends().items()}

    def lacking(self, name, *done):
        return self.prerequisites.lacking(self.index.row_of(name), self.past(*done))

    def never(self, name, *done):
        return self.prerequisites.never(self.index.row_of(name), self.past(*done))


def test_an_item_is_open_to_who_has_done_all_that_it_requires():
    courses = Courses()
    courses.put("basics")
    courses.put("statistics", "basics", "algebra")  # described before what it requires
    courses.put("algebra")
    assert courses.gated() == ["statistics"]
    assert courses.opened() == []
    assert courses.opened("basics") == []
    assert courses.opened("basics", "basics") == []
    assert courses.opened("algebra", "basics", "basics") == ["statistics"]
    assert courses.opened("algebra", "basics", action=VIEW) == []
    assert courses.lacking("statistics", "basics") == ["algebra"]
    assert courses.never("statistics") is None


def test_what_is_required_changes_with_the_item_and_ends_with_it():
    courses = Courses()
    courses.put("basics")
    courses.put("statistics", "basics")
    assert courses.opened("basics") == ["statistics"]
    courses.put("learning", "basics")
    assert courses.opened("basics") == ["statistics", "learning"]
    courses.put("statistics", "calculus")
    assert courses.opened("basics") == ["learning"]
    assert courses.opened("calculus") == ["statistics"]
    courses.put("learning", deleted=True)
    courses.put("statistics")
    assert courses.gated() is None
    courses.put("statistics", "basics")
    courses.put("statistics", deleted=True)
    assert courses.gated() is None
    assert courses.opened("basics") is None


def test_an_item_may_require_thousands_and_what_nobody_has_described():
    courses = Courses()
    lessons = [f"lesson {n}" for n in range(3_000)]
    courses.put("diploma", *lessons)
    assert courses.opened(*lessons[:-1]) == []
    assert courses.opened(*lessons) == ["diploma"]
    assert courses.lacking("diploma", *lessons[:-1]) == lessons[-1:]
    assert courses.never("diploma") == "unknown"
    assert courses.never("diploma", *lessons) is None


def test_what_a_user_has_done_counts_by_its_key_before_its_name_is_known():
    courses = Courses()
    row = courses.index.rows_of_keys(np.array([key_of("basics")], np.uint64))
    courses.put("statistics", "basics")
    past = courses.past()._replace(bounds=np.array([0, 1]), items=row, actions=np.array([COMPLETE], np.uint8))
    assert courses.prerequisites.opened(past)[0].tolist() == [courses.index.row_of("statistics")]


def test_what_nobody_requires_any_more_is_forgotten(monkeypatch):
    monkeypatch.setattr(prerequisites, "FORGOTTEN", 4)
    world = Courses()
    for n in range(50):
        world.put("a", f"first {n}")
    world.put("b", "first 49", "c")
    assert len(world.prerequisites._required) <= 4 + 2 * 3
    world.put("first 49")
    world.put("c")
    assert world.opened("first 49") == ["a"]
    assert world.opened("first 49", "c") == ["a", "b"]


def test_items_that_nobody_can_be_offered_are_told_with_why():
    courses = Courses()
    courses.put("free")
    courses.put("fine", "free")
    courses.put("itself", "itself")
    courses.put("hen", "egg", "free")
    courses.put("egg", "hen")
    courses.put("omelette", "egg", "free")
    courses.put("typo", "fre")
    courses.put("after the typo", "typo")
    expected = {
        "itself": "circle", "hen": "circle", "egg": "circle", "omelette": "behind", "typo": "unknown",
        "after the typo": "behind",
    }  # fmt: skip
    assert courses.dead_ends() == expected
    for name in ("free", "fine", *expected):
        assert courses.never(name) == expected.get(name)
    assert courses.never("omelette", "egg") is None  # done elsewhere
    assert courses.never("hen", "egg") is None


def test_without_the_setting_nothing_is_required():
    courses = Courses(attribute=None)
    courses.put("statistics", "basics")
    assert courses.opened("basics") is None
    assert courses.lacking("statistics") == []
    assert courses.dead_ends() == {}
    assert courses.prerequisites.permits(np.array([0, 5]), courses.past()).all()


graphs = st.dictionaries(
    st.integers(0, 5), st.lists(st.integers(NO_ITEM, 7), min_size=1, max_size=3), max_size=6
)


@given(graphs)
def test_what_nobody_can_be_offered_is_what_no_order_reaches(graph):
    def can_come(row, path=()):
        return row not in path and all(
            need != NO_ITEM and can_come(need, (*path, row)) for need in graph.get(row, ())
        )

    def reaches(row, goal, met=()):
        return any(
            need == goal or (need not in met and reaches(need, goal, (*met, need)))
            for need in graph.get(row, ())
        )

    found = dead_ends(graph)
    assert found.keys() == {row for row in graph if not can_come(row)}
    for row, why in found.items():
        assert (why == "unknown") == (NO_ITEM in graph[row])
        if why != "unknown":
            assert why == "circle" or not reaches(row, row)
            assert why == "behind" or any(
                reaches(other, other) and (other == row or reaches(row, other)) for other in graph
            )
