"""Explanations of slates: paths of the knowledge graph, sources of the signals, and contributions."""
