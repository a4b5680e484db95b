from hypothesis import given
from hypothesis import strategies as st

from streams.state.postings import Postings

steps = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=120)


@given(steps)
def test_a_posting_list_has_the_rows_that_are_in_ascending(script):
    """A step puts a row under a pair where it is not, and takes it out where it is."""
    postings, expected = Postings(), {pair: set() for pair in range(3)}
    for pair, row in script:
        if row in expected[pair]:
            postings.remove([pair], row)
            expected[pair].discard(row)
        else:
            postings.add([pair], row)
            expected[pair].add(row)
        for other, rows in expected.items():
            assert postings.rows(other).tolist() == sorted(rows)


def test_rows_that_were_read_stay_as_they_were_when_the_list_grows():
    postings = Postings()
    for row in range(5):
        postings.add([7], row)
    before = postings.rows(7)
    for row in range(5, 500):
        postings.add([7], row)
    assert before.tolist() == list(range(5))
    assert len(postings.rows(7)) == 500
