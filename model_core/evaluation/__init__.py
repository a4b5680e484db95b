"""Evaluation of a release: ranking metrics by slices and with confidence intervals.

It imports data, signals, inputs and release.
"""
