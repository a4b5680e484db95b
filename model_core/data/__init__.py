"""Datasets as they are read, the numbers of their names, and the batches that a model takes.

It imports no other folder.
"""
