"""The knowledge graph: its triples, and embeddings that complete it."""
