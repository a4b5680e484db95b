"""A release: its files, the scorer that runs it, and smaller variants of it."""
