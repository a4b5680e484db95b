import numpy as np

from model_core.data.datasets import User
from model_core.signals.stated_preferences import (
    MAX_STATED,
    MIN_USERS,
    common_names,
    join_stated,
    stack_stated,
    stated_names,
    stated_rows,
)


def test_preferences_come_first_and_numbers_count_by_tens() -> None:
    said = {"age": "24", "occupation": "writer", "height": "-3.5", "odd": "nan"}
    assert stated_names(said, ["Comedy"]) == [
        "Comedy", "age=20s", "occupation=writer", "height=-10s", "odd=nan",
    ]  # fmt: skip


def test_what_few_users_state_is_not_learned() -> None:
    users = [User(f"u{n}", {"city": "Ulm" if n < MIN_USERS else "Bonn"}) for n in range(2 * MIN_USERS - 1)]
    assert common_names(users) == ["city=Ulm"]


def test_names_come_in_order_of_appearance_whatever_the_hash_seed_of_the_process() -> None:
    said = {f"n{k}": f"v{k}" for k in range(30)}
    users = [User(f"u{n}", said, ["n3=v3"]) for n in range(MIN_USERS)]
    first = ["n3=v3", *(f"n{k}=v{k}" for k in range(30) if k != 3)]
    assert common_names(users) == first


def test_unknown_and_repeated_names_have_no_place_and_the_list_ends() -> None:
    rows = {f"e{n}": n for n in range(1, 40)}
    assert stated_rows(["x", "e3", "e3", "e1"], rows) == [3, 1]
    assert len(stated_rows(rows, rows)) == MAX_STATED


def test_users_are_stacked_in_the_order_asked_for_and_strangers_state_nothing() -> None:
    users = [User("b", {"age": "31"}, ["Noir"]), User("a", {"age": "8"})]
    stacked = stack_stated(users, ["a", "b", "c"], {"age=0s": 4, "age=30s": 5, "Noir": 6})
    assert stacked[:, :3].tolist() == [[4, 0, 0], [6, 5, 0], [0, 0, 0]]


def test_stated_entities_stand_before_those_of_history_and_take_no_room_when_there_are_none() -> None:
    stated = np.zeros((2, MAX_STATED), np.int64)
    stated[0, :2] = [7, 8]
    entities = np.array([[1, 2, 3], [1, 2, 0]])
    weights = np.array([[5.0, 4.0, 3.0], [5.0, 4.0, 0.0]], np.float32)
    joined, heavy = join_stated(stated, entities, weights)
    assert joined.tolist() == [[7, 8, 1], [1, 2, 0]]
    assert heavy.tolist() == [[1.0, 1.0, 5.0], [5.0, 4.0, 0.0]]
