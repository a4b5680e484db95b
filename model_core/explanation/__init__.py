"""A score taken apart into Shapley values."""
