"""Functional core of the model: features, training, export and scoring. Arrays in, arrays out."""
