"""Decoders of batches: as aiokafka's where these can, and an error where more comes out than may."""

import gzip

import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import CorruptRecordException
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import decompress

ENCODERS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}


@pytest.mark.parametrize("codec", ENCODERS)
@given(data=st.binary(min_size=1, max_size=3_000).map(lambda some: some * 40))
def test_what_was_encoded_is_decoded(codec: int, data: bytes) -> None:
    assert decompress.DECODERS[codec](ENCODERS[codec](data)) == data


def test_snappy_may_be_one_block() -> None:
    assert decompress.snappy(snappy_encode(b"all of it " * 9, xerial_compatible=False)) == b"all of it " * 9


def test_gzip_may_have_members() -> None:
    assert decompress.gzip(gzip.compress(b"one") + gzip.compress(b" and two")) == b"one and two"


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_bomb_is_no_batch(codec: int) -> None:
    bomb = ENCODERS[codec](bytes(decompress.MOST_BYTES + 1))
    with pytest.raises(CorruptRecordException, match="64 MiB"):
        decompress.DECODERS[codec](bomb)


def test_a_frame_that_ends_too_early_is_no_batch() -> None:
    with pytest.raises(CorruptRecordException, match="within"):
        decompress.gzip(gzip.compress(bytes(1_000))[:-9])
