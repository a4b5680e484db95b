"""A real Kafka broker for the demo, the suite and a laptop: its jars, its configuration, its process."""
