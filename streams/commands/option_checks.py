"""Options that are refused before the long work that they are for."""

from pathlib import Path

from streams.errors import SlatestreamError

MANIFEST = "manifest.json"


def check_device(device: str) -> None:
    """Raise SlatestreamError where PyTorch cannot compute on a device; "auto" takes what there is."""
    if device in ("auto", "cpu"):
        return
    import torch

    why = ""
    if device.partition(":")[0] == "cuda":
        try:
            torch.empty(0, device=device)
            return
        except (RuntimeError, AssertionError) as error:
            why = f": {str(error).splitlines()[0]}"
    raise SlatestreamError(f"--device must be auto, cpu or a GPU that is here, got {device!r}{why}")


def check_release_folder(out: Path) -> None:
    """Refuse to replace what is no release: a file, or a folder that holds something else.

    Raises
    ------
    SlatestreamError
        Naming what is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise SlatestreamError(f"--out {out} must be a folder, and is a file")
    inside = sorted(one.name for one in out.iterdir())
    if inside and MANIFEST not in inside:
        raise SlatestreamError(
            f"--out {out} must be a release, to be replaced, or empty, and holds {inside[0]}: name another"
        )
