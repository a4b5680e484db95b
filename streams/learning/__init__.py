"""Policies in service: which are in use, what they learn from, and those that only watch."""
