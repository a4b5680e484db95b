"""Quarantine as operators use it: workers are asked over HTTP, or what they share is folded without a user.

It may import what `streams.verify` may, and that.
"""
