"""Lists the installed packages as a CycloneDX document and their known vulnerabilities: `make audit`.

The tools have an environment of their own, so that they are no part of what they look at.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = ("pip-audit==2.10.1", "cyclonedx-bom==7.5.0")
DOCUMENT = "sbom.cdx.json"
PINNED = Path("deploy/constraints.txt")


def prepared(folder: Path) -> Path | None:
    """Return the folder of the tools' programs; None where they cannot be installed."""
    programs = folder / "tools" / "bin"
    uv = Path(sys.executable).with_name("uv")
    asked: list[Sequence[object]] = [
        (uv, "venv", "--quiet", "--allow-existing", programs.parent),
        (uv, "pip", "install", "--quiet", "--python", programs / "python", *TOOLS),
    ]
    for command in asked:
        if subprocess.run(list(map(str, command)), check=False).returncode:
            return None
    return programs


def components(programs: Path, out: Path) -> int:
    """Write the bill of materials of the environment that runs this; return how many packages it names."""
    command = (programs / "cyclonedx-py", "environment", sys.executable, "--pyproject", "pyproject.toml")
    options = ("--mc-type", "application", "--output-format", "JSON", "--output-file", out)
    subprocess.run(list(map(str, (*command, *options))), check=True)
    return len(json.loads(out.read_text())["components"])


def advisories(programs: Path) -> dict[str, Any] | None:
    """Return what pip-audit says of the pinned packages; None where it reaches nobody who knows."""
    command = (programs / "pip-audit", "--requirement", PINNED, "--no-deps", "--disable-pip")
    options = ("--format", "json", "--progress-spinner", "off")
    done = subprocess.run(
        list(map(str, (*command, *options))), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return found


def judged(found: Mapping[str, Any] | None) -> tuple[list[str], bool]:
    """Return what to print of pip-audit's answer, and whether something is vulnerable.

    A package that nobody knows is not audited, which is said: no vulnerability was looked for.
    """
    packages = [] if found is None else found["dependencies"]
    known = [one for one in packages if "skip_reason" not in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
        for one in known
        for flaw in one["vulns"]
    ]
    vulnerable = bool(lines)
    if not known:
        lines.append("SKIPPED audit: no database of advisories is reached")
    else:
        lines.append(f"audit: {len(known)} packages, {len(lines)} known vulnerabilities")
        if left := [one["name"] for one in packages if "skip_reason" in one]:
            lines.append(f"not audited: {', '.join(left)}")
    return lines, vulnerable


def main(folder: Path) -> int:
    """Write the document to a folder and audit; 1 if a package has a known vulnerability."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = prepared(folder)
    if programs is None:
        print("SKIPPED audit and bill of materials: their tools cannot be installed here")
        return 0
    print(f"bill of materials: {components(programs, folder / DOCUMENT)} packages, {folder / DOCUMENT}")
    lines, vulnerable = judged(advisories(programs))
    print("\n".join(lines))
    return int(vulnerable)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
