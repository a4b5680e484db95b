"""Errors of tasks and futures that nobody looks at: asyncio logs them when they are thrown away."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def nothing_unheard() -> Iterator[None]:
    """Assert that asyncio has nothing to log of what the body leaves behind."""
    heard: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert heard == []
