"""The item side: content becomes embeddings on `item-state`, and embeddings become vectors to score."""
