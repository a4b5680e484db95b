"""An item of a stream: all records fetched of one partition."""

from collections.abc import Sequence
from typing import Any

import faust
from faust.types import TP, Message


class RecordBatch:
    """Records of one partition in offset order, and how far they reach.

    Attributes
    ----------
    tp : TP
    records : RecordColumns, or any sequence of records
        Empty where the log holds nothing but the end of a transaction, or what one took back.
    last_offset : int
        Last offset covered: that of the last record, or of what follows it and stands for no record.
    epoch : int
        The ledger's epoch: a batch of an older one must be dropped, its records are read again.
    """

    __slots__ = ("epoch", "last_offset", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], last_offset: int, epoch: int) -> None:
        self.tp = tp
        self.records = records
        self.last_offset = last_offset
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.records)


class BatchSchema(faust.Schema[Any, Any]):
    """Hands a `RecordBatch` through Faust's decoding untouched."""

    def loads_key(self, app: Any, message: Message, **options: Any) -> Any:
        """Return nothing: keys belong to the records."""
        return None

    def loads_value(self, app: Any, message: Message, **options: Any) -> Any:
        """Return the batch itself."""
        return message.value
