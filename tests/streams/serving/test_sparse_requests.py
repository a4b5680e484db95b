"""What a request may be given, by a worker's own path."""

from tests.streams.conftest import MakeMemory, Memory

FILMS = {
    "alien": ["Horror", "Sci-Fi"],
    "blade": ["Sci-Fi"],
    "clue": ["Comedy"],
    "diner": ["Comedy", "Drama"],
    "evita": ["Musical"],
}


def describe(memory: Memory) -> None:
    for name, genre in FILMS.items():
        memory.events.content(name, attributes={"genre": genre})


async def test_a_batch_of_different_wishes_gives_each_request_its_own_items(make_memory: MakeMemory) -> None:
    memory = make_memory(seen_actions=["like"], partitions=1)
    describe(memory)
    memory.events.click("ann", "alien", "like")
    memory.events.click("ann", "blade", "view")
    memory.events.user("ann", blocked_items=["clue"])
    wishes = [
        ({"user_id": "ann"}, {"blade", "diner", "evita"}),
        ({"user_id": "bob"}, set(FILMS)),
        ({"user_id": "ann", "pinned": ["clue", "alien"]}, {"alien", "blade", "diner", "evita"}),
        ({"user_id": "bob", "candidates": ["clue", "evita", "no such item"]}, {"clue", "evita"}),
        ({"user_id": "bob", "filters": {"genre": ["Comedy"]}}, {"clue", "diner"}),
        ({"user_id": "bob", "filters": {"genre": ["Comedy", "Western"]}, "exclude": ["clue"]}, {"diner"}),
        ({"user_id": "bob", "filters": {"genre": ["Western"]}}, set()),
        ({"user_id": "bob", "k": 1, "filters": {"genre": ["Drama"]}, "pinned": ["evita"]}, {"diner"}),
    ]
    async with memory.worker() as worker:
        await worker.deliver("content", "users", "clicks")
        asked = [memory.events.request(**{"k": 10} | wish) for wish, _ in wishes]
        await worker.deliver()
    given = {
        slate.request_id: [item.item_id for item in slate.slate] for slate in memory.events.recommendations()
    }
    assert [set(given[request]) for request in asked] == [expected for _, expected in wishes]
    assert given[asked[2]][0] == "alien"


async def test_who_has_seen_everything_is_given_it_again(make_memory: MakeMemory) -> None:
    memory = make_memory(seen_actions=["like"], partitions=1)
    describe(memory)
    for name in FILMS:
        memory.events.click("ann", name, "like")
    memory.events.request("ann", k=10)
    async with memory.worker() as worker:
        await worker.deliver()
    (slate,) = memory.events.recommendations()
    assert {item.item_id for item in slate.slate} == set(FILMS)
    assert slate.fallback == "all_seen"
