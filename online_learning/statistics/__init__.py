"""Statistics that policies learn from: sums that add up over partitions, and the models read off them."""
