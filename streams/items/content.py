"""From content as published to item-state rows: text, images and sounds become embeddings, once a change."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ConfigurationError
from streams.events import Content
from streams.items.media import MediaEncoders
from streams.items.table import AnyScorer
from streams.settings import Settings
from streams.state.catalogue import encode_deletion, encode_item_state

if TYPE_CHECKING:
    from model_core.release.text_encoder import TextEncoder
    from streams.kafka.publisher import Row

log = logging.getLogger(__name__)

NO_ENCODER = "none"

Change = tuple[Any, Content | None]


class ContentEncoder:
    """Encodes changed items in a thread of its own.

    The text encoder is the release's, so that training and serving read the same vectors; without a
    release it is the configured one.
    """

    def __init__(self, settings: Settings, scorer: AnyScorer) -> None:
        self._name = scorer.release.text_encoder or settings.text_encoder
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="content")
        self._text: TextEncoder | None = None
        self._media = MediaEncoders(settings)

    def start(self) -> None:
        """Begin to load the text encoder, which takes seconds: the first item need not wait for it."""
        self._executor.submit(self._load)

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def rows(self, changes: Sequence[Change]) -> tuple[list["Row"], list[tuple[Any, str]]]:
        """Encode changes, (record, content or None for a deletion), in order.

        Returns
        -------
        rows : key and value of each item-state row, in the order of the changes
        refused : (record, error) of those whose image or sound cannot be used
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._rows, changes)

    def _rows(self, changes: Sequence[Change]) -> tuple[list["Row"], list[tuple[Any, str]]]:
        refused: list[tuple[Any, str]] = []
        media: dict[int, tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]] = {}
        usable: list[Change] = []
        for record, content in changes:
            if content is not None:
                try:
                    media[record.offset] = (
                        self._media.image(content.image),
                        self._media.audio(content.audio),
                    )
                except ValueError as error:
                    refused.append((record, str(error)))
                    continue
            usable.append((record, content))
        described = [content for _, content in usable if content is not None]
        texts = iter(self._texts(described))
        rows: list[Row] = []
        for record, content in usable:
            if content is None:
                # Not a null row: an older description that is read again must lose against the deletion.
                name = record.key.decode(errors="replace")
                deletion = encode_deletion(content_id=name, partition=record.partition, offset=record.offset)
                rows.append((record.key, deletion))
                continue
            image, audio = media[record.offset]
            value = encode_item_state(
                content_id=content.item_id,
                title=content.title,
                text=next(texts),
                image=image,
                audio=audio,
                attributes=content.attributes,
                triples=content.triples,
                available=content.available,
                published_ms=content.published_ms,
                expires_ms=content.expires_ms,
                partition=record.partition,
                offset=record.offset,
            )
            rows.append((content.item_id.encode(), value))
        return rows, refused

    def _texts(self, described: Sequence[Content]) -> "Sequence[NDArray[np.float32] | None]":
        if self._name == NO_ENCODER:
            return [None] * len(described)
        if not described:
            return []
        from model_core.release.text_encoder import item_text

        encoder = self._load()
        assert encoder is not None
        return list(encoder.encode([item_text(c.title, c.text, c.attributes) for c in described]))

    def _load(self) -> "TextEncoder | None":
        """Load the text encoder once; an error shows when there is a text to encode."""
        if self._text is None and self._name != NO_ENCODER:
            from model_core.release.text_encoder import TextEncoder

            try:
                self._text = TextEncoder(self._name)
            except ValueError as error:
                raise ConfigurationError(f"text_encoder: {error}") from error
        return self._text
