"""Ranks on a user's own device, where the history stays: NumPy, ONNX Runtime and Python, nothing else.

It may import `streams.errors`, and what a worker hands out is all that it knows of one.
"""
