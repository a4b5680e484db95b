"""A probe that clicks and asks through the real topics, and tells Prometheus how that went."""
