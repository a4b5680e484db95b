"""Fake users who push items, on a worker in memory or on a test cluster, and what that does to honest users.

It may import what a client of the topics may, and `streams.testing`.
"""
