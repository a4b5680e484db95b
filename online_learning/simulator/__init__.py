"""Simulated users with a known truth: what a slate is worth now, and what it costs later."""
