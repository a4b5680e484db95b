"""`slatestream trainer`: trains on what is new, checks what comes of it, and lets it serve.

A training is a process of its own (`step`), so that the one that waits (`loop`) stays small.
"""
