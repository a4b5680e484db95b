"""Clients for Python: over the topics, and over HTTP."""

from streams.client.topics import ANSWER_TIMEOUT_S, Answer, SlateClient

__all__ = ["ANSWER_TIMEOUT_S", "Answer", "SlateClient"]
