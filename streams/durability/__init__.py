"""What makes state outlive a worker: changelog rows, the flush, the restore, and the digest that compares."""
