"""The demo: real data, a trained release, a worker, and simulated users who click."""
