"""Federated counts: sums over several sites, of which no site learns another's part.

It may import what `streams.verify` may, and that.
"""
