"""Functional core of learning: policies, attribution and evaluation. Arrays in, arrays out."""
