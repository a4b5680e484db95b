from pathlib import Path

import numpy as np
import pytest

from model_core.data.datasets import Dataset, Interactions, Item
from model_core.language.text_pairs import (
    TextLog,
    histories,
    make_log,
    make_pairs,
    read_labels,
    spaced,
    split_by_time,
)


def small(clicked: list[bool], *, shown: bool = False) -> TextLog:
    users = np.array([0, 1, 0, 0, 1, 0], np.int32)
    items = np.array([5, 4, 3, 2, 1, 0], np.int32)
    texts = [f"item {row}" for row in range(6)]
    return TextLog(texts, texts, users, items, np.array(clicked), shown)


def dataset(titles: list[str]) -> Dataset:
    ids = np.array(["a", "b", "a"], np.str_)
    interactions = Interactions(
        np.array(["u", "u", "v"], np.str_), ids, np.full(3, np.nan, np.float32), np.arange(3, dtype=np.int64)
    )
    items = [Item(name, title) for name, title in zip(["a", "b"], titles, strict=True)]
    return Dataset("d", interactions, items, [])


def test_a_history_is_the_users_own_earlier_clicks_most_recent_last() -> None:
    found = histories(small([True, True, False, True, True, True]), 2)
    assert found.tolist() == [[-1, -1], [-1, -1], [-1, 5], [-1, 5], [-1, 4], [5, 2]]


def test_histories_agree_with_a_plain_walk(log: TextLog) -> None:
    liked: dict[int, list[int]] = {}
    wanted = []
    for user, item, clicked in zip(log.users.tolist(), log.items.tolist(), log.clicked, strict=True):
        last = liked.setdefault(user, [])[-4:]
        wanted.append([-1] * (4 - len(last)) + last)
        if clicked:
            liked[user].append(item)
    assert histories(log, 4).tolist() == wanted


def test_impressions_without_a_click_are_the_negatives_where_they_are_known() -> None:
    clicked = [True, True, False, True, False, True]
    pairs = make_pairs(small(clicked, shown=True), length=2, negatives=3, rng=np.random.default_rng(0))
    assert pairs.items.tolist() == [3, 2, 1, 0]
    assert pairs.labels.tolist() == [False, True, False, True]


def test_drawn_negatives_are_items_with_a_text_that_the_user_never_met(log: TextLog) -> None:
    texts = ["" if item == 7 else text for item, text in enumerate(log.texts)]
    part = TextLog(log.titles, texts, log.users, log.items, log.clicked, False)
    pairs = make_pairs(part, length=3, negatives=2, rng=np.random.default_rng(0))
    met = set(zip(log.users.tolist(), log.items.tolist(), strict=True))
    drawn = pairs[~pairs.labels]
    assert len(drawn) == 2 * int(pairs.labels.sum())
    assert not met & set(zip(drawn.users.tolist(), drawn.items.tolist(), strict=True))
    assert 7 not in drawn.items
    assert np.unique(drawn.items).size > 50
    assert (pairs.history[:, -1] >= 0).all()


def test_an_example_and_its_negatives_stay_together_in_time_order(log: TextLog) -> None:
    pairs = make_pairs(log, length=3, negatives=2, rng=np.random.default_rng(0))
    train, validation, test = split_by_time(pairs, 0.1, 0.2)
    assert len(train) == int(len(pairs) * 0.7)
    assert len(test) == len(pairs) - int(len(pairs) * 0.8)
    assert len(train) + len(validation) + len(test) == len(pairs)
    assert pairs.labels[::3].all()


def test_items_are_said_in_words_and_rows_without_words_left_out() -> None:
    log = make_log(dataset(["a", "Alien"]), [True, True, True], shown=False)
    assert log.texts == ["", "Alien"]
    assert (log.users.tolist(), log.items.tolist()) == ([0], [1])


def test_data_without_texts_says_what_to_add() -> None:
    with pytest.raises(ValueError, match="must have texts, got none for 2 items; put an .item file with"):
        make_log(dataset(["a", "b"]), [True, True, True], shown=False)


def test_data_without_clicks_says_what_a_click_is() -> None:
    with pytest.raises(ValueError, match="must hold clicks, got none; a click is label 1, a rating of 4"):
        make_log(dataset(["Alien", "Heat"]), [False, False, False], shown=False)


def test_a_log_too_short_for_its_parts_is_refused() -> None:
    pairs = make_pairs(small([True] * 6), length=2, negatives=1, rng=np.random.default_rng(0))
    with pytest.raises(
        ValueError, match="the validation part must hold clicks and others, got 1 clicks in 1"
    ):
        split_by_time(pairs, 0.1, 0.1)
    with pytest.raises(ValueError, match="validation and test must be positive with a sum below 1"):
        split_by_time(pairs, 0.6, 0.6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "1"], "column 'label' must hold both 0 and 1, got 1 only"),
        (["0", "0"], "column 'label' must hold both 0 and 1, got 0 only"),
        (["0", "yes"], "column 'label' must hold 0 or 1, got 'yes'"),
    ],
)
def test_labels_of_one_class_or_of_none_are_refused(tmp_path: Path, labels: list[str], message: str) -> None:
    rows = "".join(f"u\ti\t{time}\t{label}\n" for time, label in enumerate(labels))
    header = "user_id:token\titem_id:token\ttimestamp:float\tlabel:float\n"
    (tmp_path / "x.inter").write_text(header + rows)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path, 2)


def test_labels_are_read_in_time_order_and_are_none_without_their_column(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\ttimestamp:float\tlabel:float\n"
    (tmp_path / "x.inter").write_text(header + "u\ti\t9\t1\nu\tj\t3\t0\n")
    labels = read_labels(tmp_path, 2)
    assert labels is not None
    assert labels.tolist() == [False, True]
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ti\t9\n")
    assert read_labels(tmp_path, 1) is None


def test_spaced_rows_reach_from_the_first_to_the_last() -> None:
    assert spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert spaced(3, 0).tolist() == spaced(3, 5).tolist() == [0, 1, 2]


def test_a_history_of_no_length_is_refused(log: TextLog) -> None:
    with pytest.raises(ValueError, match="history length must be at least 1, got 0"):
        histories(log, 0)
