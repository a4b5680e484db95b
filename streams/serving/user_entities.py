"""Entities that users state, as rows of a release."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.signals.stated_preferences import MAX_STATED, stated_names, stated_rows
from streams.state.stated import Stated


def stated_entities(stated: Sequence[Stated], entity_rows: Mapping[str, int]) -> NDArray[np.int64]:
    """Return what a release knows of what users say: (B, MAX_STATED) int64, 0 = padding."""
    entities = np.zeros((len(stated), MAX_STATED), np.int64)
    for b, said in enumerate(stated):
        if said.attributes or said.preferences:
            known = stated_rows(stated_names(said.attributes, said.preferences), entity_rows)
            entities[b, : len(known)] = known
    return entities
