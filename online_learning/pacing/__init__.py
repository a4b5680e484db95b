"""Spends budgets evenly over a day. Imports nothing but NumPy."""
