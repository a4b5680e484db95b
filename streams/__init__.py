"""The worker: everything that touches Kafka, Faust, HTTP, the clock, the environment or the disk."""
