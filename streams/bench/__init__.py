"""Benchmarks through the real topics: `slatestream bench`."""
