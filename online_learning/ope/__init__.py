"""Off-policy evaluation: what candidate policies would have earned, from the log of another policy."""
