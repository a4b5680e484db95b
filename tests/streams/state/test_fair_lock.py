import threading

from streams.state.fair_lock import FairLock

DEADLINE_S = 120.0


def test_one_who_takes_it_again_and_again_leaves_it_to_one_who_waits() -> None:
    lock, started, done = FairLock(), threading.Event(), threading.Event()

    def greedy() -> None:
        while not done.is_set():
            with lock:
                started.set()

    thread = threading.Thread(target=greedy)
    thread.start()
    try:
        assert started.wait(DEADLINE_S)
        for _ in range(100):
            with lock:
                pass
    finally:
        done.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_only_one_has_it_at_a_time() -> None:
    lock, inside, most = FairLock(), [0], [0]

    def enter() -> None:
        for _ in range(300):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert most == [1]
