"""Which slate an interaction rewards, and with how much."""
