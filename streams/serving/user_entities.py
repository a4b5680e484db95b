"""Entities that users are near, as the model reads them: those they state, then those of their history."""

import numpy as np
from numpy.typing import NDArray

from model_core.release.folder import Release
from model_core.signals.stated import MAX_STATED, join_stated, stated_names, stated_rows
from streams.items.table import ItemTable
from streams.state.catalogue import Catalogue
from streams.state.people import People
from streams.why import graph_paths as graph


def user_entities(
    release: Release, catalogue: Catalogue, items: ItemTable, people: People, liked: graph.Positives
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read what users state and like.

    Returns
    -------
    entities : (B, n_affinities) int64 rows of the release, 0 = unknown to it or padding
    weights : (B, n_affinities) float32
    """
    found, weights = graph.affinities(
        catalogue, liked, top=release.n_affinities, n_edges=release.n_neighbours
    )
    entities = np.where(found >= 0, items.release_entities(np.maximum(found, 0)), 0)
    stated = np.zeros((len(people), MAX_STATED), np.int64)
    for b, said in enumerate(people.stated):
        if said.attributes or said.preferences:
            known = stated_rows(stated_names(said.attributes, said.preferences), release.entity_rows)
            stated[b, : len(known)] = known
    some = stated.any(axis=1)
    if some.any():
        entities[some], weights[some] = join_stated(stated[some], entities[some], weights[some])
    return entities, weights
