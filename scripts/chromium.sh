#!/usr/bin/env bash
# A headless Chromium for the test that looks at a page of evidence, as DIRECTORY/chromium: the system's
# own, or Debian's packages unpacked into the directory, which needs no root. Where there is neither, it
# says so, and that test is skipped.
set -euo pipefail
into=$(mkdir -p "$1" && cd "$1" && pwd)
if own=$(command -v chromium); then
    ln -sf "$own" "$into/chromium"
elif command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    mkdir -p "$into/archives/partial"
    # Already installed dependencies are not fetched: the rest is looked for beside the browser.
    if ! apt-get install -qq -y --download-only --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$into/archives" -o APT::Sandbox::User=root chromium fonts-dejavu-core >"$into/log" 2>&1; then
        echo "no chromium: apt-get cannot fetch it ($(tail -1 "$into/log")); pages are looked at by nobody"
        exit 0
    fi
    for package in "$into"/archives/*.deb; do dpkg -x "$package" "$into/root"; done
    rm -rf "$into/archives"
    libraries=$(find "$into/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    # Fonts that were unpacked are found by a configuration that names their directory.
    printf '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>%s</dir><dir>/usr/share/fonts</dir><cachedir>%s</cachedir></fontconfig>\n' \
        "$into/root/usr/share/fonts" "$into/fonts" >"$into/fonts.conf"
    printf '#!/bin/sh\nFONTCONFIG_FILE=%s LD_LIBRARY_PATH=%s exec %s "$@"\n' \
        "$into/fonts.conf" "$libraries" "$into/root/usr/lib/chromium/chromium" >"$into/chromium"
    chmod +x "$into/chromium"
else
    echo "no chromium here, and no apt-get to fetch it: pages are looked at by nobody"
    exit 0
fi
"$into/chromium" --version
touch "$into/.done"
