"""Signals that are counted: co-visits, popularity and EASE, and their estimates for new items."""
