#!/usr/bin/env bash
# A redis-server for the tests, as DIRECTORY/redis-server: the system's own, or Debian's packages
# unpacked into the directory, which needs no root and starts no service. Where there is neither, it
# says so, and the tests that need one are skipped.
set -euo pipefail
into=$(mkdir -p "$1" && cd "$1" && pwd)
if own=$(command -v redis-server); then
    ln -sf "$own" "$into/redis-server"
elif command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    mkdir -p "$into/archives/partial"
    # Already installed dependencies are not fetched: the rest is looked for beside the server.
    if ! apt-get install -qq -y --download-only --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$into/archives" -o APT::Sandbox::User=root redis-server >"$into/log" 2>&1; then
        echo "no redis-server: apt-get cannot fetch it ($(tail -1 "$into/log")); tests over Redis are skipped"
        exit 0
    fi
    for package in "$into"/archives/*.deb; do dpkg -x "$package" "$into/root"; done
    libraries=$(find "$into/root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$into/root/usr/bin/redis-server" \
        >"$into/redis-server"
    chmod +x "$into/redis-server"
else
    echo "no redis-server here, and no apt-get to fetch it: tests over Redis are skipped"
    exit 0
fi
"$into/redis-server" --version
touch "$into/.done"
