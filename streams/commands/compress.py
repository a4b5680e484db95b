"""`slatestream compress`: a smaller variant of a release."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from streams.commands.option_checks import check_release_folder
from streams.errors import SlatestreamError


def compress_command(
    release: Annotated[Path, typer.Argument(help="Folder of a release in full precision.")],
    out: Annotated[Path, typer.Option(help="Folder of the variant; replaced when it exists.")],
    precision: Annotated[
        Literal["int8", "fp16"],
        typer.Option(help="8-bit weights, for the CPU; or half-precision matrix products, for a GPU."),
    ] = "int8",
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")] = False,
) -> None:
    """Write a variant of a release with smaller weights, which a worker serves like any other.

    Measure what it costs before you serve it: slatestream evaluate OUT --data FOLDER.

    slatestream compress build/release --out build/small
    """
    check_release_folder(out)
    from model_core.release.compress import compress_release

    try:
        made = compress_release(release, out, precision)
    except ValueError as error:
        raise SlatestreamError(f"compress: {error}") from error
    before, after = (sum(file.stat().st_size for file in folder.glob("*.onnx")) for folder in (release, out))
    Console(stderr=True).print(
        f"Release {made.version} in {out}: {precision}, graphs {after / 1e6:.2f} MB instead of "
        f"{before / 1e6:.2f} MB",
        highlight=False,
    )
    if as_json:
        sizes = {"bytes": after, "bytes_before": before}
        print(json.dumps({"release": made.version, "folder": str(out), "precision": precision, **sizes}))
