"""Asking workers over HTTP for the state of a partition."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Self

from streams.api.answers import PartitionState
from streams.client.http import HttpClient, HttpError, token_of_environment
from streams.durability.state_rows import Bucket, Kind
from streams.errors import SlatestreamError, UnreachableError

ASK_S = 60.0


class Workers:
    """Some workers, of which one owns the partition that is asked for, or says who does.

    Parameters
    ----------
    urls : of their admin ports
    """

    def __init__(self, urls: Sequence[str]) -> None:
        token = token_of_environment()
        self._clients = [HttpClient(url, token=token, timeout_s=ASK_S) for url in urls]
        self._owners: dict[int, HttpClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()

    async def ask(self, partition: int, kind: Kind, bucket: Bucket, tell_rows: bool) -> PartitionState:
        """Return a bucket of the state of a partition.

        Raises
        ------
        SlatestreamError
            If a worker refuses, as where a token of scope `admin` is missing.
        UnreachableError
            If none of the workers answers for the partition.
        """
        return await asyncio.to_thread(self._ask, partition, kind, bucket, tell_rows)

    def _ask(self, partition: int, kind: Kind, bucket: Bucket, tell_rows: bool) -> PartitionState:
        owner, said = self._owners.pop(partition, None), ""
        for client in dict.fromkeys([*([owner] if owner else []), *self._clients]):
            try:
                found = client.state(partition, kind, bucket=bucket.number, of=bucket.of, rows=tell_rows)
            except HttpError as error:
                if error.status not in (None, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE):
                    raise SlatestreamError(f"verify: {error.detail}") from None
                said = error.detail
            else:
                self._owners[partition] = client
                return found
        raise UnreachableError(
            f"verify: nobody answers for partition {partition}: {said}; name each worker with --url, its "
            "admin port where that is one of its own"
        )
