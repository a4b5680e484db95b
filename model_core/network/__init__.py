"""The networks: item encoder, ranker, and the model of both.

It imports data, signals and inputs.
"""
