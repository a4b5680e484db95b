"""Evaluation of a release: ranking metrics by slices and with confidence intervals."""
