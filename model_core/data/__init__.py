"""Datasets: reading, vocabularies, held-out splits, training samples and replay."""
