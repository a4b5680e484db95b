"""Differential privacy: bounds what a release reveals of its users."""
