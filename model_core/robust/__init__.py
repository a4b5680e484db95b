"""Bounds the influence of single users on shared statistics; it may import `model_core.kernels` only."""
