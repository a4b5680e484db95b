"""Signals that are counted: co-visits, popularity and EASE, and their estimates for new items.

It imports data and robust.
"""
