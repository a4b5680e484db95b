"""Asking workers over HTTP about partitions: of several, the one that owns it answers."""

import asyncio
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

from streams.api.answers import PartitionState
from streams.client.http import HttpClient, HttpError, token_of_environment
from streams.durability.state_rows import Bucket, Kind
from streams.errors import SlatestreamError, UnreachableError

ASK_S = 60.0
PATIENCE_S, PAUSE_S = 15.0, 0.5
"""How long a partition may have no owner, as while workers come and go, and how often is asked then."""
ELSEWHERE = (None, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
"""What one says that does not own the partition."""

T = TypeVar("T")


class Workers:
    """Some workers, of which one owns the partition that is asked for, or says who does.

    Parameters
    ----------
    urls : of their admin ports
    command : what errors begin with
    patience_s : how long they are asked again while they say that somebody will own it, or be ready, soon
    """

    def __init__(self, urls: Sequence[str], *, command: str, patience_s: float = PATIENCE_S) -> None:
        token = token_of_environment()
        self._command = command
        self._patience_s = patience_s
        self._clients = [HttpClient(url, token=token, timeout_s=ASK_S) for url in urls]
        self._owners: dict[int, HttpClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()

    async def state(self, partition: int, kind: Kind, bucket: Bucket, tell_rows: bool) -> PartitionState:
        """Return a bucket of the state of a partition; raises what `ask` does."""

        def question(client: HttpClient) -> PartitionState:
            return client.state(partition, kind, bucket=bucket.number, of=bucket.of, rows=tell_rows)

        return await asyncio.to_thread(self.ask, partition, question)

    def ask(self, partition: int, question: Callable[[HttpClient], T]) -> T:
        """Ask the owner of a partition.

        Raises
        ------
        SlatestreamError
            If a worker refuses, as where a token of scope `admin` is missing.
        UnreachableError
            If none of the workers answers for the partition.
        """
        ends_at = time.monotonic() + self._patience_s
        while True:
            said, is_soon = "", False
            owner = self._owners.pop(partition, None)
            for client in dict.fromkeys([*([owner] if owner else []), *self._clients]):
                try:
                    found = question(client)
                except HttpError as error:
                    if error.status not in ELSEWHERE:
                        raise SlatestreamError(f"{self._command}: {error.detail}") from None
                    said, is_soon = error.detail, is_soon or error.status == HTTPStatus.SERVICE_UNAVAILABLE
                else:
                    self._owners[partition] = client
                    return found
            if not is_soon or time.monotonic() >= ends_at:
                break
            time.sleep(PAUSE_S)
        raise UnreachableError(
            f"{self._command}: nobody answers for partition {partition}: {said}; name each worker with "
            "--url, its admin port where that is one of its own"
        )
