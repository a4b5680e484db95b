"""What the two graphs of a release are given: items to encode, requests to score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """What the item encoder sees of n items. A masked part is missing; widths may be 0 where unused.

    text : (n, T) float32, text_mask : (n,) bool; image (n, I) and audio (n, U) alike
    entities, relations : (n, K) int64 release rows (0 = unknown or padding), edge_mask : (n, K) bool
    id_rows : (n,) int64 release rows (0 = an item the release does not know)
    """

    text: NDArray[np.float32]
    text_mask: NDArray[np.bool_]
    image: NDArray[np.float32]
    image_mask: NDArray[np.bool_]
    audio: NDArray[np.float32]
    audio_mask: NDArray[np.bool_]
    entities: NDArray[np.int64]
    relations: NDArray[np.int64]
    edge_mask: NDArray[np.bool_]
    id_rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """B requests over the N rows of an item matrix.

    history : (B, L) int64 item rows, most recent last, -1 = padding on the left
    history_actions : (B, L) int64 action codes (`Release.action_code`)
    history_age_s : (B, L) float32, seconds before the request
    user_entities : (B, A) int64 release rows, 0 = padding; user_entity_weights : (B, A) float32
    signals : (B, S, N) float32; eligible : (B, N) bool
    """

    history: NDArray[np.int64]
    history_actions: NDArray[np.int64]
    history_age_s: NDArray[np.float32]
    user_entities: NDArray[np.int64]
    user_entity_weights: NDArray[np.float32]
    signals: NDArray[np.float32]
    eligible: NDArray[np.bool_]
