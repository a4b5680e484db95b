"""Entities that a user is near, as the model reads them: those they state, then those of their history."""

import numpy as np
from numpy.typing import NDArray

from model_core.release.folder import Release
from model_core.signals.stated import MAX_STATED, join_stated, stated_names, stated_rows
from streams.items.table import ItemTable
from streams.state.catalogue import Catalogue
from streams.state.profiles import Profiles
from streams.why import graph_paths as graph


def user_entities(
    release: Release,
    catalogue: Catalogue,
    items: ItemTable,
    profiles: Profiles,
    user_row: int,
    *,
    now_ms: int,
    half_life_ms: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read what a user states and likes, as of `now_ms`.

    Returns
    -------
    entities : (n_affinities,) int64 rows of the release, 0 = unknown to it or padding
    weights : (n_affinities,) float32
    """
    found, strength = graph.affinities(
        catalogue, profiles, user_row, now_ms=now_ms,
        half_life_ms=half_life_ms, top=release.n_affinities,
        n_edges=release.n_neighbours,
    )  # fmt: skip
    entities = np.zeros((1, release.n_affinities), np.int64)
    weights = np.zeros((1, release.n_affinities), np.float32)
    entities[0, : len(found)], weights[0, : len(found)] = items.release_entities(found), strength
    said = stated_names(profiles.attributes(user_row), profiles.preferences(user_row))
    known = stated_rows(said, release.entity_rows)
    if not known:
        return entities[0], weights[0]
    stated = np.zeros((1, MAX_STATED), np.int64)
    stated[0, : len(known)] = known
    joined, heavy = join_stated(stated, entities, weights)
    return joined[0], heavy[0]
