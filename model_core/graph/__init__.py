"""The knowledge graph: its triples, and embeddings that complete it.

It imports data and network.
"""
