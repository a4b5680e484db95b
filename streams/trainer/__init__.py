"""`slatestream trainer`: trains on new events, checks the release, and lets it serve.

A training is a process of its own (`step`), so that the one that waits (`loop`) stays small.
"""
