"""A release: its files, the scorer that runs it, and smaller variants of it.

It imports data, signals, inputs and network. What a worker loads of it needs no torch.
"""
