"""From content as published to item-state rows: text, images and sounds become embeddings, once a change."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.item_text import item_text
from model_core.release.text_encoder import TextEncoder
from streams.decoding.records import MEDIA, TEXT, Rejected
from streams.errors import ConfigurationError
from streams.events import Content
from streams.items.media import MediaEncoders
from streams.kafka.publisher import Row
from streams.state.item_rows import encode_deletion, encode_item_state

log = logging.getLogger(__name__)

KEEP_S = 10.0
RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
NOT_FINITE = "text must have a finite vector, got NaN or infinity"

Change = tuple[Any, Content | None]
Vector = NDArray[np.float32]


class AnotherEncoder(ConfigurationError):
    """The text encoder is not the one whose vectors the items have: nothing may be encoded with it."""


class ContentEncoder:
    """Encodes changed items in a thread of its own.

    The text encoder must be there when a worker starts. If its files are gone when it is opened again later,
    content waits for them, unread; slates are served meanwhile.

    Parameters
    ----------
    open_text
        Returns the text encoder, or None to keep no text vectors. It may take seconds.
    media
        Encodes images and sounds.
    keep_s
        How long a text encoder that waits for content is kept: its weights are a third of a worker's memory,
        and to open it again takes a fraction of a second.
    retry_s
        How long to wait before the first of several attempts to open it again.
    """

    def __init__(
        self,
        open_text: Callable[[], TextEncoder | None],
        media: MediaEncoders,
        *,
        keep_s: float = KEEP_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._open_text = open_text
        self._media = media
        self._keep_s = keep_s
        self._retry_s = retry_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="content")
        self._opening: Future[None] | None = None
        self._letting_go: asyncio.TimerHandle | None = None
        # Of the thread alone.
        self._text: TextEncoder | None = None
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str | None:
        """Of the text encoder whose vectors the items have; None where they have none."""
        return self._fingerprint

    def start(self) -> None:
        """Begin to open the text encoder, if that has not begun."""
        if self._opening is None:
            self._opening = self._executor.submit(self._open)

    async def ready(self) -> None:
        """Return once texts can be encoded; what the encoder cannot be opened for is raised."""
        assert self._opening is not None, "start first"
        await asyncio.wrap_future(self._opening)
        self._rest()

    def close(self) -> None:
        """Stop the thread."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _rest(self) -> None:
        """Let the text encoder go if no content comes for a while."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        loop = asyncio.get_running_loop()
        self._letting_go = loop.call_later(self._keep_s, self._executor.submit, self._let_go)

    def _let_go(self) -> None:
        if self._text is not None and self._text.on_cpu:
            self._text = None

    def _open(self) -> None:
        self._opened()

    def _opened(self) -> TextEncoder | None:
        if self._text is None:
            self._text = self._open_text()
            found = None if self._text is None else self._text.fingerprint
            if self._fingerprint not in (None, found):
                raise AnotherEncoder(
                    f"text_encoder: must stay the one with the fingerprint {self._fingerprint}, got {found}"
                )
            self._fingerprint = found
        return self._text

    async def rows(
        self, changes: Sequence[Change], since_ms: Mapping[str, int]
    ) -> tuple[list[Row], list[Rejected]]:
        """Encode changes, (record, content or None for a deletion).

        Parameters
        ----------
        since_ms : when each item was first described, of those that were

        Returns
        -------
        rows : key and value of each item-state row, in the order of the changes
        refused : records whose text, image or sound cannot be encoded

        Raises
        ------
        AnotherEncoder
            If the text encoder is another one than before.
        """
        wait_s = self._retry_s
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._rows, changes, since_ms
                )
            except AnotherEncoder:
                raise
            except ConfigurationError as error:  # its files are gone
                log.error("content waits, to be tried again in %g s: %s", wait_s, error)
            finally:
                self._rest()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_RETRY_S)

    def _rows(
        self, changes: Sequence[Change], since_ms: Mapping[str, int]
    ) -> tuple[list[Row], list[Rejected]]:
        refused: list[Rejected] = []
        media: dict[int, tuple[Vector | None, Vector | None]] = {}
        usable: list[Change] = []
        for record, content in changes:
            if content is not None:
                try:
                    media[record.offset] = (
                        self._media.image(content.image),
                        self._media.audio(content.audio),
                    )
                except ValueError as error:
                    refused.append(Rejected(record, MEDIA, str(error)))
                    continue
            usable.append((record, content))
        texts = iter(self._texts([content for _, content in usable if content is not None]))
        rows: list[Row] = []
        for record, content in usable:
            if content is None:
                # Not a null row: an older description that is read again must lose against the deletion.
                name = record.key.decode(errors="replace")
                deletion = encode_deletion(content_id=name, partition=record.partition, offset=record.offset)
                rows.append((record.key, deletion))
                continue
            text = next(texts)
            if isinstance(text, str):
                refused.append(Rejected(record, TEXT, text))
                continue
            image, audio = media[record.offset]
            value = encode_item_state(
                content_id=content.item_id,
                title=content.title,
                text=text,
                image=image,
                audio=audio,
                attributes=content.attributes,
                triples=content.triples,
                available=content.available,
                published_ms=content.published_ms,
                expires_ms=content.expires_ms,
                partition=record.partition,
                offset=record.offset,
                since_ms=since_ms.get(content.item_id),
            )
            rows.append((content.item_id.encode(), value))
        return rows, refused

    def _texts(self, described: Sequence[Content]) -> Sequence[Vector | str | None]:
        """Return each item's vector, None without an encoder, or why its text cannot be encoded."""
        encoder = self._opened() if described else None
        if encoder is None:
            return [None] * len(described)
        texts = [item_text(one.title, one.text, one.attributes) for one in described]
        try:
            vectors = encoder.encode(texts)
        except Exception:  # whatever the encoder raises for one text: find which, and keep the others
            log.exception("%d texts cannot be encoded together: one by one", len(texts))
            return [_alone(encoder, text) for text in texts]
        return [vector if np.isfinite(vector).all() else NOT_FINITE for vector in vectors]


def _alone(encoder: TextEncoder, text: str) -> Vector | str:
    try:
        (vector,) = encoder.encode([text])
    except Exception as error:
        return f"text cannot be encoded: {error}"
    return vector if np.isfinite(vector).all() else NOT_FINITE
