"""What keeps few users from speaking for all; it may import `model_core.kernels` only."""
