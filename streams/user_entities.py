"""Entities that a user is near, as the model reads them: those they state, then those of their history."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_core.stated import MAX_STATED, join_stated, stated_names, stated_rows
from streams.state import graph
from streams.state.profiles import Profiles

if TYPE_CHECKING:
    from streams.engine import Engine


def user_entities(
    engine: "Engine", profiles: Profiles, user_row: int, now_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[int, str]]:
    """Read what a user states and likes, as of `now_ms`.

    Returns
    -------
    entities : (n_affinities,) int64 rows of the release, 0 = unknown to it or padding
    weights : (n_affinities,) float32
    names : of the rows
    """
    release = engine.scorer.release
    found, strength = graph.affinities(
        engine.catalogue, profiles, user_row, now_ms=now_ms,
        half_life_ms=engine.settings.affinity_half_life_ms, top=release.n_affinities,
        n_edges=release.n_neighbours,
    )  # fmt: skip
    entities, weights = np.zeros((1, release.n_affinities), np.int64), np.zeros((1, release.n_affinities))
    rows = engine.items.release_entities(found)
    entities[0, : len(rows)], weights[0, : len(rows)] = rows, strength
    names = dict(zip(rows.tolist(), (engine.catalogue.entities[entity] for entity in found), strict=True))
    said = stated_names(profiles.attributes(user_row), profiles.preferences(user_row))
    stated = np.zeros((1, MAX_STATED), np.int64)
    known = stated_rows(said, release.entity_rows)
    stated[0, : len(known)] = known
    names |= {release.entity_rows[name]: name for name in said if name in release.entity_rows}
    joined, heavy = join_stated(stated, entities, weights.astype(np.float32))
    return joined[0], heavy[0], names
