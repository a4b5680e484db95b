"""One worker process: the Faust application, its agents, and what they are wired to."""
