"""Metrics of a worker, and the port they are read at."""

from streams.metrics.intake import DEAD_LETTER_REASONS
from streams.metrics.registry import Described
from streams.metrics.worker import Metrics

__all__ = ["DEAD_LETTER_REASONS", "Described", "Metrics"]
