"""The passage of text that stands for an item in a text encoder."""

from collections.abc import Mapping, Sequence


def item_text(
    title: str, text: str | None = None, attributes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Say in one passage what an item is; training and serving must agree, so both call this.

    >>> item_text("Alien (1979)", None, {"genre": ["Horror", "Sci-Fi"]})
    'Alien (1979). genre: Horror, Sci-Fi'
    """
    parts = [title]
    parts += [f"{name}: {', '.join(values[:8])}" for name, values in (attributes or {}).items() if values]
    if text:
        parts.append(text)
    return ". ".join(parts)
