"""How many slates of a user's hour are learned from."""

from streams.serving.slate_quota import HOUR_MS, SlateQuota

START = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def test_the_first_of_an_hour_count_for_each_user_by_the_time_of_the_request():
    quota = SlateQuota(3)
    taken = [quota.take("u", START + n, now_s=0.0) for n in range(5)]
    assert taken == [True, True, True, False, False]
    assert quota.take("other", START, now_s=0.0)
    assert quota.take("u", START + HOUR_MS, now_s=0.0)
    assert quota.take("u", -1, now_s=0.0)


def test_all_count_where_nothing_is_bounded():
    quota = SlateQuota(0)
    assert all(quota.take("u", START, now_s=0.0) for _ in range(200))


def test_twenty_thousand_slates_of_an_hour_keep_nobody_out():
    quota = SlateQuota(20)
    users = [f"u{n}" for n in range(1_000)]
    left_out = sum(not quota.take(user, START, now_s=0.0) for user in users for _ in range(20))
    assert left_out == 0


def test_an_hour_of_requests_counts_once_whenever_the_hour_of_the_clock_ends():
    quota = SlateQuota(4)
    assert quota.take("other", START, now_s=0.0)  # from here on the clock's hour runs
    moments = [1_000.0, 3_599.0, 3_600.0, 3_601.0, 4_500.0, 4_599.0]
    assert sum(quota.take("u", START, now_s=now_s) for now_s in moments) == 4
    assert quota.take("u", START + HOUR_MS, now_s=4_600.0)


def test_what_was_counted_two_hours_ago_is_forgotten():
    for waits in ([3_600.0, 7_200.0], [7_200.0], [9_000.0]):
        quota = SlateQuota(1)
        assert quota.take("u", START, now_s=0.0)
        assert not quota.take("u", START, now_s=3_599.0)
        for now_s in waits:
            quota.take("other", START, now_s=now_s)
        assert quota.take("u", START, now_s=waits[-1])
