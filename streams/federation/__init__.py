"""What several sites count together, without any of them being told what another one counted.

It may import what `streams.verify` may, and that.
"""
