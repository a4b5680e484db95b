"""A worker without a broker: a log in memory, a clock moved by hand, and the real parts on them.

It may import everything of streams; nothing outside tests imports it.
"""
