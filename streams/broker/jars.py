"""Finds what the embedded broker runs on: a Java, and Kafka's jars, fetched once with Maven."""

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from streams.cache import cache_folder
from streams.errors import BrokerError

MIN_JAVA = 17


def find_java() -> str:
    """Return the `java` to run: JAVA_HOME's, or the one on the PATH.

    Raises
    ------
    BrokerError
        When there is none, or it is older than Java 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else None
    java = java or shutil.which("java")
    rule = f"the embedded Kafka broker needs Java {MIN_JAVA} or newer"
    remedy = "install one, e.g.: sudo apt-get install openjdk-17-jre-headless"
    if java is None:
        raise BrokerError(f"{rule}, and no java was found; {remedy}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = java_version(shown)
    if version < MIN_JAVA:
        raise BrokerError(f"{rule}, and {java} is version {version}; {remedy}")
    return java


def java_version(shown: str) -> int:
    """Return the feature release named by what `java -version` printed; 0 when it names none."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', shown)
    if found is None:
        return 0
    major = int(found[1])
    # Java 8 and older call themselves 1.8.
    return int(found[2] or 0) if major == 1 else major


def kafka_jars() -> Path:
    """Return the folder with the broker's jars; see `fetched_jars`."""
    return fetched_jars(find_pom(), "kafka")


def fetched_jars(pom: Path, name: str) -> Path:
    """Return the folder with the jars that a pom names, fetching them with Maven the first time.

    Raises
    ------
    BrokerError
        When Maven is missing or cannot resolve the jars.
    """
    # A changed pom is another folder.
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    jars = cache_dir() / f"{name}-jars-{digest}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(
            "the embedded Kafka broker's jars are fetched with Maven, and no mvn was found; install it, "
            "e.g.: sudo apt-get install maven"
        )
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside and renamed, so that a folder with the final name is always complete.
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=f"{name}-jars-partial-") as partial:
        target = Path(partial, "jars")
        command = [
            maven,
            "-q",
            "-B",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={target}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise BrokerError(f"Maven could not fetch the jars named in {pom}:\n{output}")
        try:
            target.rename(jars)
        except OSError:
            if not jars.is_dir():  # another process was quicker: its folder is as good
                raise
    return jars


def class_archive(java: str, jars: Path) -> Path:
    """Return where this Java's archive of the broker's classes is, or is to be: with it a start takes half.

    It fits only the Java and the jars that it was made with; a Java to which it does not fit goes on without.
    """
    program = Path(java).resolve()
    made_with = f"{program} {program.stat().st_mtime_ns}"
    return jars.with_name(f"{jars.name}-{hashlib.sha256(made_with.encode()).hexdigest()[:12]}.jsa")


def find_pom() -> Path:
    """Return the pom that names the jars: the checkout's, or the one installed with the package."""
    checkout = _checkout() / "deploy" / "kafka" / "pom.xml"
    installed = Path(sysconfig.get_path("data"), "share", "slatestream", "kafka", "pom.xml")
    for pom in (checkout, installed):
        if pom.is_file():
            return pom
    raise BrokerError(
        f"the pom of the Kafka broker is neither at {checkout} nor at {installed}; reinstall slatestream"
    )


def cache_dir() -> Path:
    """Return where fetched jars are kept: the checkout's build folder, else the user's cache folder."""
    if (_checkout() / "deploy" / "kafka" / "pom.xml").is_file():
        return _checkout() / "build"
    return cache_folder()


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]
