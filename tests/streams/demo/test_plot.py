import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

from streams.demo.arms import Visits
from streams.demo.plot import click_through_svg

SVG = "{http://www.w3.org/2000/svg}"


def heights(svg: str) -> list[list[float]]:
    lines = ET.fromstring(svg).iter(f"{SVG}polyline")
    return [[float(point.split(",")[1]) for point in line.get("points", "").split()] for line in lines]


def test_a_better_arm_is_drawn_higher():
    visits = Visits()
    rng = np.random.default_rng(0)
    for _ in range(1000):
        visits.add(
            0, 10, (int(rng.binomial(10, 0.4)), int(rng.binomial(10, 0.05)), int(rng.binomial(10, 0.2)))
        )
    policy, random, popularity = heights(click_through_svg(visits))
    assert max(policy) < min(popularity) < max(popularity) < min(random)  # y grows downwards


def test_a_change_half_way_shows():
    visits = Visits()
    for n in range(1000):
        visits.add(0, 10, (1 if n < 500 else 5, 0, 0))
    policy = heights(click_through_svg(visits, window=100))[0]
    assert policy[0] > policy[-1]
    assert policy == sorted(policy, reverse=True)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_visits_still_make_a_picture(n):
    visits = Visits()
    for _ in range(n):
        visits.add(0, 10, (1, 0, 0))
    assert len(heights(click_through_svg(visits))) == 3


def test_labels_of_equal_arms_do_not_overlap():
    visits = Visits()
    for _ in range(10):
        visits.add(0, 10, (1, 1, 1))
    texts = [node for node in ET.fromstring(click_through_svg(visits)).iter(f"{SVG}text") if node.get("fill")]
    places = sorted(float(node.get("y", "0")) for node in texts)
    assert len(places) == 3
    assert min(b - a for a, b in pairwise(places)) >= 15
