import random

import numpy as np
import pytest
import xxhash

from streams.decoding.xxh3 import LONGEST, xxh3


@pytest.mark.parametrize("size", range(LONGEST + 1))
def test_the_compiled_hash_is_that_of_xxhash(size):
    text = random.Random(size).randbytes(size)
    data = np.frombuffer(b"before" + text + b"after", np.uint8)

    assert int(xxh3(data, 6, size)) == xxhash.xxh3_64_intdigest(text)
