"""What is counted and measured, and the port it is read at."""

from streams.metrics.intake import DEAD_LETTER_REASONS
from streams.metrics.registry import Described
from streams.metrics.worker import Metrics

__all__ = ["DEAD_LETTER_REASONS", "Described", "Metrics"]
