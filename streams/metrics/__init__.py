"""Metrics of a worker, and the port they are read at."""

from streams.metrics.intake import REASON_LABELS
from streams.metrics.registry import Described
from streams.metrics.worker import Metrics

__all__ = ["REASON_LABELS", "Described", "Metrics"]
