"""The networks: item encoder, ranker, and the model of both."""
