#!/bin/sh
# Checks what slatestream needs from the system, and installs through apt what is missing when it may:
# as root, or with a sudo that asks for no password. Otherwise it stops with the one line to run.
#
#   sh deploy/system-packages.sh python        Python 3.11+ with venv, for the environment
#   sh deploy/system-packages.sh python java   and Java 17+ and Maven, for the embedded Kafka broker
set -eu

python=${PYTHON:-python3}

has_java() {
    java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    command -v "$java" >/dev/null 2>&1 || return 1
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ]
}

# The oldest Java that will do, of those that this release of the distribution has.
java_package() {
    for release in 17 21 25; do
        if apt-cache policy "openjdk-$release-jre-headless" 2>/dev/null | grep -q 'Candidate: [0-9]'; then
            echo "openjdk-$release-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

missing_packages() {
    for need in "$@"; do
        case $need in
        python)
            "$python" -c 'import ensurepip, venv' 2>/dev/null || "$python" -c \
                'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
            ;;
        java)
            has_java || java_package
            command -v mvn >/dev/null 2>&1 || echo maven
            ;;
        *)
            echo "usage: $0 [python] [java]" >&2
            exit 2
            ;;
        esac
    done
}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "slatestream needs Python 3.11 or newer, and $python is not; name another: make PYTHON=python3.12 ..." >&2
    exit 1
fi

packages=$(missing_packages "$@")
packages=$(printf %s "$packages" | tr '\n' ' ')
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "slatestream needs: $packages. There is no apt here: install them by this system's means." >&2
    exit 1
elif [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "slatestream needs system packages, and may not install them. Run this, then try again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y $packages" >&2
    exit 1
fi

echo "Installing through apt: $packages"
$sudo apt-get update -q
# The lists are fresh now, so a better Java may be known than before.
packages=$(missing_packages "$@")
# shellcheck disable=SC2086 # one word a package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
