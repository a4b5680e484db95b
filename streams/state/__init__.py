"""State as folds of topics: profiles, catalogue, graph and their changelogs."""
