"""A session at the command line: a cluster, child processes, the machine, and a clean way out.

It may import `streams.broker`, `streams.kafka` and `streams.worker.process`.
"""
