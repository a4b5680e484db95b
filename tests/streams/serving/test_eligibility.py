from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.serving.eligibility import Eligibility
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.item_rows import encode_item_state

DAY = 86_400_000


class World:
    """A catalogue, its bitmap, and a time that goes on when told to."""

    def __init__(self):
        self.index = ItemIndex()
        self.catalogue = Catalogue(self.index)
        self.now = 1_700_000_000_000
        self.eligibility = Eligibility(self.catalogue, now_ms=self.now)
        self.offset = 0

    def put(self, item, *, available=True, published=None, expires=None):
        """Describe an item; times are relative to now."""
        value = encode_item_state(
            content_id=item, title=item, text=None, image=None, audio=None, attributes={}, triples=[],
            available=available, partition=0, offset=self.offset,
            published_ms=None if published is None else self.now + published,
            expires_ms=None if expires is None else self.now + expires,
        )  # fmt: skip
        self._apply(item, value)

    def delete(self, item):
        self._apply(item, None)

    def _apply(self, item, value):
        self.offset += 1
        record = SimpleNamespace(key=item.encode(), value=value, timestamp=self.now)
        self.eligibility.changed(self.catalogue.apply([record]))

    def encode(self, *items):
        self.eligibility.mark_encoded(self.index.rows_of(items).astype(np.int64))

    def wait(self, ms):
        self.now += ms
        self.eligibility.advance(self.now)

    def served(self):
        return {self.index.ids[row] for row in np.flatnonzero(self.eligibility.bits)}


def test_an_item_may_be_served_once_it_is_described_and_encoded():
    world = World()
    world.put("a")
    assert world.served() == set()
    world.encode("a")
    assert world.served() == {"a"}
    world.put("a", available=False)
    assert world.served() == set()
    world.put("a")
    world.delete("a")
    assert world.served() == set()


def test_an_item_comes_and_goes_with_its_times():
    world = World()
    world.put("a", published=DAY, expires=3 * DAY)
    world.encode("a")
    assert world.served() == set()
    world.wait(DAY)
    assert world.served() == {"a"}
    world.wait(2 * DAY - 1)
    assert world.served() == {"a"}
    world.wait(1)
    assert world.served() == set()


def test_the_bitmap_holds_between_the_times_around_now():
    world = World()
    world.put("old", published=-DAY)
    world.put("soon", published=2 * DAY)
    assert world.eligibility.holds(world.now - DAY)
    assert not world.eligibility.holds(world.now - DAY - 1)
    assert world.eligibility.holds(world.now + 2 * DAY - 1)
    assert not world.eligibility.holds(world.now + 2 * DAY)


def test_an_expiry_that_is_put_off_again_and_again_takes_no_more_memory():
    world = World()
    for later in range(100):
        world.put("a", expires=DAY + later)
    assert len(world.eligibility._times) == 1
    world.encode("a")
    world.wait(DAY + 98)
    assert world.served() == {"a"}
    world.wait(1)
    assert world.served() == set()


items = st.sampled_from("abcd")
times = st.one_of(st.none(), st.integers(-5, 15))
steps = st.one_of(
    st.tuples(st.just("put"), items, st.booleans(), times, times),
    st.tuples(st.just("delete"), items),
    st.tuples(st.just("encode"), items),
    st.tuples(st.just("wait"), st.integers(0, 4)),
)


@given(st.lists(steps, max_size=30), st.lists(st.integers(-10, 30), max_size=4))
def test_the_bitmap_is_what_the_items_say_at_every_moment_it_holds_for(script, others):
    world = World()
    for what, *arguments in script:
        if what == "put":
            item, available, published, expires = arguments
            world.put(item, available=available, published=published, expires=expires)
        else:
            getattr(world, what)(*arguments)
        n = len(world.index)
        bits = world.eligibility.bits[:n]
        assert world.eligibility.holds(world.now)
        assert bits.tolist() == world.eligibility.at(world.now, n).tolist()
        for other in others:
            if world.eligibility.holds(world.now + other):
                assert bits.tolist() == world.eligibility.at(world.now + other, n).tolist()


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_rows_that_nobody_has_described_are_not_served(n):
    world = World()
    world.put("a")
    world.encode("a")
    assert world.eligibility.at(world.now, n).sum() == min(n, 1)
    assert world.eligibility.bits.sum() == 1
