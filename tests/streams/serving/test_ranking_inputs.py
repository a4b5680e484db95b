"""What a device is told of the items of a list."""

from streams.api.answers import ItemList, ListedItem
from tests.streams.conftest import Memory


async def test_items_that_were_forgotten_since_a_list_was_made_are_left_out(memory: Memory) -> None:
    for user in "uvw":
        for item in "ab":
            memory.events.click(user, item, "like")
    async with memory.worker() as worker:
        await worker.deliver()
        items = [ListedItem(item, 1.0, item) for item in ("gone", "a", "b")]
        told = await worker.parts.ranking.beside(ItemList("popular", items, 0))
        assert [one.item_id for one in told.items] == ["a", "b"]
        assert all(one.popularity > 0 for one in told.items)
        assert [[item for item, _ in one.met_with] for one in told.items] == [["b"], ["a"]]
        assert (await worker.parts.ranking.beside(ItemList("popular", items[:1], 0))).items == []
