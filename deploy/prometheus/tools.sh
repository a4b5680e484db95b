#!/bin/sh
# Puts promtool and prometheus into a folder, for the tests: unpacked from Debian's or Ubuntu's package, for to
# install it would start a server on this machine. Does nothing where both are on the PATH already, and only
# says so where they cannot be had: the tests that need them are skipped then.
#
#   sh deploy/prometheus/tools.sh build/prometheus
set -eu

folder=$1
if [ -x "$folder/usr/bin/promtool" ] && [ -x "$folder/usr/bin/prometheus" ]; then
    exit 0
fi
if command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; then
    exit 0
fi

without() {
    echo "Tests of rules and dashboards will be skipped: $1" >&2
    exit 0
}

command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1 \
    || without "promtool and prometheus are not on the PATH, and there is no apt here"
if [ "$(id -u)" -eq 0 ]; then
    sudo=
else
    sudo="sudo -n"
fi

mkdir -p "$folder"
cd "$folder"
# The lists may be missing or old.
apt-get -q -o APT::Sandbox::User=root download prometheus >/dev/null 2>&1 \
    || { $sudo apt-get update -q && apt-get -q -o APT::Sandbox::User=root download prometheus; } \
    || without "apt-get cannot download the package prometheus"
dpkg -x prometheus_*.deb .
rm prometheus_*.deb
