"""A lease is valid for a session from the asking on."""

from streams.kafka.lease import Lease


class Hand:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_that_nobody_has_given_is_not_valid() -> None:
    assert not Lease(10.0, clock=Hand()).valid


def test_a_lease_ends_a_session_after_the_asking() -> None:
    hand = Hand()
    lease = Lease(10.0, clock=hand)
    lease.renew(lease.now())
    hand.now += 9.9
    assert lease.valid
    hand.now += 0.2
    assert not lease.valid


def test_an_answer_that_waited_for_a_sleeper_renews_nothing() -> None:
    hand = Hand()
    lease = Lease(10.0, clock=hand)
    asked = lease.now()
    hand.now += 60.0  # frozen, the answer in the socket's buffer
    lease.renew(asked)
    assert not lease.valid


def test_an_older_answer_takes_nothing_from_a_newer_one_and_an_end_ends_it() -> None:
    hand = Hand()
    lease = Lease(10.0, clock=hand)
    lease.renew(100.0)
    lease.renew(95.0)
    hand.now = 109.0
    assert lease.valid
    lease.end()
    assert not lease.valid
