import pytest
from aiokafka.partitioner import DefaultPartitioner

from streams.kafka.partitioner import partition_of, partitions_of


def test_a_key_goes_where_aiokafka_and_the_java_client_send_it():
    every = list(range(7))
    for key in ("", "1", "u12345", "müller", "用户" * 40, "x" * 513):
        assert partition_of(key, 7) == DefaultPartitioner()(key.encode(), every, every)


def test_many_keys_go_where_each_goes():
    keys = [f"user{'é' * (i % 5)}{i}" for i in range(1000)]
    assert partitions_of(keys, 12).tolist() == [partition_of(key, 12) for key in keys]
    assert partitions_of([], 12).tolist() == []


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)],
)
def test_the_hash_is_that_of_kafkas_own_tests(key, murmur2):
    assert partition_of(key, 1 << 20) == (murmur2 & 0x7FFFFFFF) % (1 << 20)
