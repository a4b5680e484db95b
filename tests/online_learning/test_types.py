import numpy as np
import pytest

from online_learning.types import Candidates


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3, 4, 2), (3, 4)), r"scores must have shape \(requests, candidates\), got \(3,\)"),
        (((3, 4), (3, 5, 2), (3, 4)), r"features must have shape \(3, 4, 'F'\) .* got \(3, 5, 2\)"),
        (((3, 4), (3, 4), (3, 4)), r"features must have shape \(3, 4, 'F'\) .* got \(3, 4\)"),
        (((3, 4), (3, 4, 2), (4, 3)), r"valid must have shape \(3, 4\) .* got \(4, 3\)"),
    ],
)
def test_candidates_whose_arrays_do_not_go_together_are_refused(shapes, message: str) -> None:
    scores, features, valid = shapes
    with pytest.raises(ValueError, match=message):
        Candidates(np.zeros(scores, np.float32), np.zeros(features, np.float32), np.zeros(valid, bool))
