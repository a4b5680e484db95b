"""Settings to begin with for a kind of business: files that are copied and then the user's own."""

import sysconfig
from pathlib import Path

from streams.errors import ConfigurationError


def presets() -> dict[str, Path]:
    """Return the presets there are, by name: the checkout's, or those installed with the package."""
    checkout = Path(__file__).resolve().parents[2] / "deploy" / "presets"
    installed = Path(sysconfig.get_path("data"), "share", "slatestream", "presets")
    for folder in (checkout, installed):
        if found := sorted(folder.glob("*.toml")):
            return {path.stem: path for path in found}
    raise ConfigurationError(f"presets are neither at {checkout} nor at {installed}; reinstall slatestream")


def read_preset(name: str) -> str:
    """Return the text of a preset.

    Raises
    ------
    ConfigurationError
        Naming those that there are, if there is none of this name.
    """
    found = presets()
    if name not in found:
        raise ConfigurationError(f"--preset must be one of {', '.join(found)}, got {name!r}")
    return found[name].read_text(encoding="utf-8")


def write_preset(name: str, out: Path) -> None:
    """Copy a preset to a file that is not there yet.

    Raises
    ------
    ConfigurationError
        If there is no such preset, or the file is there or cannot be written.
    """
    text = read_preset(name)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(f"--out {out} is there already: name another file") from None
    except OSError as error:
        raise ConfigurationError(f"--out {out} cannot be written: {error.strerror}") from None
