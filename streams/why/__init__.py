"""Why an item is in a slate: paths of the knowledge graph, the signals' sources, and whole explanations."""
