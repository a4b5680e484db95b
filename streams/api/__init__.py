"""HTTP as its callers see it: what they may ask, who may, and how they are refused.

It knows requests and answers, and nothing of what a worker is made of: it may import events, errors, settings
and metrics. `streams.worker.http` puts it in front of a worker.
"""
