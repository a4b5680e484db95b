from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import total_popularity
from model_core.signals.config import SignalConfig
from model_core.signals.parts import PartsReader
from model_core.signals.reader import Reader
from streams.durability.digest import fold_batch
from streams.events import Click
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.item_rows import encode_item_state
from streams.state.people import gather
from streams.state.profiles import Profiles
from streams.why.slate_reasons import SlateReasons

ACTIONS = ("view", "click", "like", "dislike")
WEIGHTS = np.array([0.2, 1, 2, -1], np.float32)
POSITIVE = np.array([False, True, True, False])
NOW = 1_700_000_000_000
DAY = 86_400_000

FILMS = {
    "Alien": {"directed_by": ["Ridley Scott"], "genre": ["Horror"]},
    "Blade Runner": {"directed_by": ["Ridley Scott"], "genre": ["Drama"]},
    "Scream": {"genre": ["Horror"]},
    "Brazil": {"genre": ["Drama"]},
    "Amelie": {"genre": ["Comedy", "Romance"]},
    "Untagged": {},
    **{f"Filler {k}": {"genre": ["Horror", "Drama"]} for k in range(10)},
}


class World:
    def __init__(self, films=FILMS):
        self.index, self.covisits = ItemIndex(), CoVisitation(neighbours=32, window=5)
        self.catalogue = Catalogue(self.index)
        self.profiles = Profiles(0, history_limit=1024, actions=ACTIONS, positive=["click", "like"])
        self.offset = 0
        for title, attributes in films.items():
            value = encode_item_state(
                content_id=title, title=title, text=None, image=None, audio=None, attributes=attributes,
                triples=[], available=True, published_ms=None, expires_ms=None, partition=0, offset=0,
            )  # fmt: skip
            self.catalogue.apply([SimpleNamespace(key=title.encode(), value=value, timestamp=0)])

    def act(self, user, item, action="like", age_ms=0):
        self.offset += 1
        event = Click(
            event_id=f"e{self.offset}", user_id=user, item_id=item, action=action, timestamp_ms=NOW - age_ms
        )
        fold_batch(self.profiles, self.covisits, self.index, [(self.offset, event)])

    def people(self, *users):
        rows = [(self.profiles, self.profiles.row_of(user)) for user in users]
        return gather(rows, depth=1000, counts_as_seen=np.ones(4, np.bool_), positive=POSITIVE)

    def drawn(self, people):
        described = np.zeros(len(self.index), np.bool_)
        known = self.catalogue.windows.known[: len(described)]
        described[: len(known)] = known
        reader = Reader(
            SignalConfig(), history_length=1, n_affinities=1, n_entities=1, codes=np.zeros(4, np.int64)
        )
        return reader.draw(people.pasts, np.full(len(people), NOW), described=described)

    def explain(self, slates):
        """Explain slates, user by user: item rows, -1 = padding."""
        why = SlateReasons(
            catalogue=self.catalogue, index=self.index, actions=ACTIONS, action_weights=WEIGHTS
        )
        people = self.people(*slates)
        return why.of(
            people.stated, self.drawn(people), np.array(list(slates.values()), np.int64),
            parts=PartsReader().read([self.covisits]), liked=None,
            popularity=total_popularity([self.covisits], len(self.index)),
        )  # fmt: skip

    def reasons(self, *items, user="u"):
        (slate,) = self.explain({user: self.index.rows_of(items)})
        return [why.reasons for why in slate]


def test_the_rarest_shared_entity_is_the_reason():
    world = World()
    world.act("u", "Alien")

    assert world.reasons("Blade Runner") == [["because you liked Alien: directed by Ridley Scott"]]
    assert world.reasons("Scream") == [["because you liked Alien: genre Horror"]]


def test_the_strongest_event_is_named():
    world = World()
    world.act("u", "Scream", age_ms=300 * DAY)
    world.act("u", "Alien", action="click")

    assert world.reasons("Filler 1") == [["because you looked at Alien: genre Horror"]]


def test_an_item_is_no_reason_for_itself_and_views_are_none():
    world = World()
    world.act("u", "Amelie")
    world.act("u", "Brazil", action="view")
    world.act("u", "Brazil", action="dislike")

    assert world.reasons("Amelie", "Blade Runner") == [["popular right now"], ["new"]]


def test_stated_preferences_come_first():
    world = World()
    world.act("u", "Amelie")
    world.profiles.set_stated(
        "u", attributes={}, preferences=["Comedy", "unknown"], blocked=world.index.rows_of([]), offset=0
    )
    world.profiles.set_stated(
        "quiet", attributes={}, preferences=["Drama"], blocked=world.index.rows_of([]), offset=1
    )

    assert world.reasons("Amelie")[0][0] == "because you chose genre Comedy"
    assert world.reasons("Brazil", user="quiet") == [["because you chose genre Drama"]]


def test_what_others_liked_together_is_a_reason():
    world = World()
    for user in "abc":
        world.act(user, "Amelie")
        world.act(user, "Untagged")
    world.act("u", "Amelie")

    assert world.reasons("Untagged") == [["often enjoyed by people who liked Amelie"]]


def test_at_most_two_reasons_are_given():
    world = World()
    for user in "abc":
        world.act(user, "Alien")
        world.act(user, "Scream")
    world.act("u", "Alien")
    world.profiles.set_stated(
        "u", attributes={}, preferences=["Horror"], blocked=world.index.rows_of([]), offset=0
    )

    assert world.reasons("Scream") == [
        ["because you chose genre Horror", "because you liked Alien: genre Horror"]
    ]


def test_strangers_get_what_is_popular_or_new():
    world = World()
    world.act("someone", "Alien")

    assert world.reasons("Alien", "Brazil", user="stranger") == [["popular right now"], ["new"]]
    assert world.reasons(user="stranger") == []


def test_a_reason_never_names_what_was_deleted():
    world = World()
    world.act("u", "Alien")
    world.catalogue.apply([SimpleNamespace(key=b"Alien", value=None, timestamp=0)])

    assert world.reasons("Blade Runner", "Alien") == [["new"], ["popular right now"]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FILMS, "never described"]),
            st.sampled_from(ACTIONS),
            st.integers(-(10**13), 10**12),
        ),
        max_size=20,
    ),
    st.lists(st.integers(-1, 5000), max_size=5),
    st.sampled_from(["u", "nobody"]),
)
def test_every_item_has_a_reason_whatever_comes(events, items, user):
    world = World()
    for item, action, age in events:
        world.act("u", item, action, age)
    (slate,) = world.explain({user: np.array(items, np.int64)})
    found = [why.reasons for why in slate]

    assert len(found) == len(items)
    assert all(1 <= len(reasons) <= 2 and all(reasons) for reasons in found)


def test_slates_of_a_batch_are_explained_as_they_are_alone():
    world = World()
    for user in "abc":
        world.act(user, "Alien")
        world.act(user, "Scream")
    world.act("u", "Amelie")
    rows = world.index.rows_of(["Blade Runner", "Scream", "Brazil"]).tolist()
    slates = {"a": [rows[0], -1, -1], "u": rows, "nobody": [rows[2], rows[1], -1]}

    together = world.explain(slates)
    assert together == [world.explain({user: slate})[0] for user, slate in slates.items()]


def test_evidence_names_the_item_that_co_visits_owe_most_to():
    world = World()
    for user in "abc":
        world.act(user, "Alien")
        world.act(user, "Scream")
    world.act("u", "Amelie")
    world.act("u", "Alien")
    (slate,) = world.explain({"u": world.index.rows_of(["Scream", "Brazil"])})

    assert [(one.signal, one.item_id, one.share) for one in slate[0].evidence] == [("covisits", "Alien", 1.0)]
    assert slate[1].evidence == []
