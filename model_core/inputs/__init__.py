"""From a dataset to batches: its corpus, and its log replayed as a worker would see it.

It imports data and signals.
"""
