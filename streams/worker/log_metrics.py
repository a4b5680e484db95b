"""Counts the warnings and errors that are logged: what Kafka's clients retry is seen nowhere else."""

import logging

from streams.metrics import Metrics


class LogCounter(logging.Handler):
    """A handler for the root logger that writes nothing."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(logging.WARNING)
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record."""
        self._metrics.count_logged(record.name, "error" if record.levelno >= logging.ERROR else "warning")
