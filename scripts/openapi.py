"""Keeps deployments/openapi.json true to the routes: compares, or writes it with --write."""

from __future__ import annotations

import sys

from deployments.openapi import COMMITTED, openapi_text


def main() -> int:
    """Compare or write; returns the exit code."""
    text = openapi_text()
    if "--write" in sys.argv:
        COMMITTED.write_text(text, encoding="utf-8")
    if not COMMITTED.is_file() or COMMITTED.read_text(encoding="utf-8") != text:
        print("deployments/openapi.json drifted: run `python -m scripts.openapi --write`")
        return 1
    print("deployments/openapi.json is true to the routes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
