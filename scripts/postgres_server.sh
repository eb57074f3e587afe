#!/usr/bin/env bash
# PostgreSQL's initdb and postgres for the tests, as DIRECTORY/bin: the system's own, or Debian's
# packages unpacked into the directory, which needs no root and starts no service. Where there is
# neither, it says so, and the tests that need a server are skipped.
set -euo pipefail
into=$(mkdir -p "$1" && cd "$1" && pwd)
find_bin() { { ls -d "$1"/usr/lib/postgresql/*/bin 2>/dev/null || true; } | sort -V | tail -1; }
root="" bin=$(find_bin "")
if [ ! -x "$bin/initdb" ] && own=$(command -v initdb); then bin=$(dirname "$(readlink -f "$own")"); fi
if [ ! -x "$bin/initdb" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    mkdir -p "$into/archives/partial"
    # Already installed dependencies are not fetched: the rest is looked for beside the server.
    if ! apt-get install -qq -y --download-only --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$into/archives" -o APT::Sandbox::User=root postgresql >"$into/log" 2>&1; then
        echo "no PostgreSQL: apt-get cannot fetch it ($(tail -1 "$into/log")); tests over it are skipped"
        exit 0
    fi
    for package in "$into"/archives/*.deb; do dpkg -x "$package" "$into/root"; done
    root="$into/root" bin=$(find_bin "$into/root")
fi
if [ ! -x "$bin/initdb" ]; then
    echo "no PostgreSQL here, and no apt-get to fetch it: tests over it are skipped"
    exit 0
fi
mkdir -p "$into/bin"
libraries=$([ -z "$root" ] || find "$root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
for program in initdb postgres; do
    printf '#!/bin/sh\n%sexec %s "$@"\n' "${libraries:+LD_LIBRARY_PATH=$libraries }" "$bin/$program" \
        >"$into/bin/$program"
    chmod +x "$into/bin/$program"
done
"$into/bin/postgres" --version
