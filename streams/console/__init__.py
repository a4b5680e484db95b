"""The console: web pages that show a worker's state, learning and decisions.

It may import everything that a worker is made of, and is imported by the worker's command alone.
"""
