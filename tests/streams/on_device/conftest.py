from tests.streams.releases.conftest import make_life, tiny

__all__ = ["make_life", "tiny"]
