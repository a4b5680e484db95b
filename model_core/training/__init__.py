"""From interactions to a release: the loop, its objective, and what is fitted beside it."""
