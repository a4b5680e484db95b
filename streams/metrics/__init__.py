"""What is counted and measured, and the port it is read at."""

from streams.metrics.worker import DEAD_LETTER_REASONS, Described, Metrics

__all__ = ["DEAD_LETTER_REASONS", "Described", "Metrics"]
