"""Durable state: changelog rows, the flush, the restore, and the digest that compares."""
