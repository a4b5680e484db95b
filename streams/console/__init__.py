"""The console: pages in a worker that show what it does, knows and has decided, for a person who looks.

It may import everything that a worker is made of, and is imported by the worker's command alone.
"""
