"""Values of `item-state`: items as they are written there; `Catalogue` folds them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.state.rows import SCHEMA_VERSION, ItemState, encode

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def encode_item_state(
    *,
    content_id: str,
    title: str,
    text: NDArray[np.float32] | None,
    image: NDArray[np.float32] | None,
    audio: NDArray[np.float32] | None,
    attributes: Mapping[str, Sequence[str]],
    triples: Sequence[tuple[str, str]],
    available: bool,
    published_ms: int | None,
    expires_ms: int | None,
    partition: int,
    offset: int,
    since_ms: int | None = None,
) -> bytes:
    """Value of an item's row in `item-state`, from the record at (partition, offset) of `content`.

    Parameters
    ----------
    text, image, audio : (d,) float32 or None; kept as float16
    since_ms : when the item was first described; None where this is the first time
    """
    return encode(
        ItemState(
            SCHEMA_VERSION,
            content_id,
            title,
            _half(text),
            _half(image),
            _half(audio),
            {relation: list(entities) for relation, entities in attributes.items()},
            list(triples),
            available,
            published_ms,
            expires_ms,
            partition,
            offset,
            since_ms=since_ms,
        )
    )


def encode_deletion(*, content_id: str, partition: int, offset: int) -> bytes:
    """Value that deletes an item and, unlike a null one, still tells its record from an older content."""
    return encode(
        ItemState(
            SCHEMA_VERSION,
            content_id,
            "",
            None,
            None,
            None,
            {},
            [],
            False,
            None,
            None,
            partition,
            offset,
            True,
        )
    )


def _half(vector: NDArray[np.float32] | None) -> bytes | None:
    if vector is None:
        return None
    return np.clip(vector, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2").tobytes()
