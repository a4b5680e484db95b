"""What training makes of the topics' records."""

import msgspec

from model_core.data.datasets import Item
from streams.commands.training_log import as_dataset
from streams.events import Click
from streams.settings import Settings

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def test_a_click_whose_time_lies_ahead_is_left_out_as_the_worker_leaves_it_out() -> None:
    times = {"a": NOW_MS, "b": NOW_MS + DAY_MS, "c": NOW_MS + DAY_MS + 1, "d": NOW_MS - 4_000 * DAY_MS}
    clicks = [(msgspec.json.encode(Click(name, "u", "i", "like", at)), NOW_MS) for name, at in times.items()]
    dataset, actions = as_dataset(Settings(), clicks, {"i": Item("i", "I")}, [])
    assert dataset.interactions.timestamps_ms.tolist() == [times["d"], times["a"], times["b"]]
    assert actions == ["like"] * 3


def test_a_click_whose_position_no_slate_can_have_is_left_out_as_the_worker_leaves_it_out() -> None:
    known = msgspec.json.encode(Click("a", "u\0", "i\0", "like", NOW_MS, position=2**31 - 1))
    clicks = [known] + [known.replace(b"2147483647", b"%d" % n) for n in (2**31, 2**63 - 1, 2**63, 2**70)]
    dataset, _ = as_dataset(Settings(), [(value, NOW_MS) for value in clicks], {}, [])
    assert dataset.interactions.positions is not None
    assert dataset.interactions.positions.tolist() == [2**31 - 1]
