"""Checks a state against the logs: folds these by a worker's own agents, writes nothing, joins no group.

It may import everything of streams but the commands beside it.
"""
