"""Exports a text encoder: `python -m streams.items.export_encoder NAME FOLDER`, run as a child."""

import re
import sys
from pathlib import Path

from model_core.release.bert_graph import export_bert, is_bert
from model_core.release.text_encoder import find_source

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def export(name: str, out: Path) -> None:
    """Write an encoder's export into a folder: a BERT's without torch, any other with what trains.

    Raises
    ------
    ValueError
        If there is no such encoder, or it needs what is not installed.
    """
    source = Path(find_source(name))
    if is_bert(source):
        export_bert(source, out, name=name)
        return
    if not source.is_dir() and HUB_NAME.fullmatch(name) is None:
        raise ValueError("it must be a folder that exists or a name on Hugging Face, and is neither")
    try:
        from model_core.language.export_text import export_encoder
    except ModuleNotFoundError as error:
        raise ValueError(
            f"it is no folder with a BERT, and others need {error.name}: pip install 'slatestream[train]'"
        ) from None
    export_encoder(name, out)


def main() -> None:
    """Export, or say in one line why not."""
    name, out = sys.argv[1:]
    try:
        export(name, Path(out))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
