"""Experiments: who sees which policy, and what may be said of the difference at any time."""
