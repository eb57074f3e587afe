"""A picture of a page of evidence, as a person sees it: headless Chromium, the whole page.

Usage: python scripts/evidence_shot.py CHROMIUM EVIDENCE.html PICTURE.png
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

__all__ = ["main", "shoot"]

_WIDE, _HIGH = 1100, 1500
_LIMIT_S = 120


def main() -> None:
    """Take the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chromium", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--height", type=int, default=_HIGH, help="pixels")
    options = parser.parse_args()
    shoot(options.chromium, options.page, options.picture, high=options.height)


def shoot(chromium: Path, page: Path, picture: Path, *, high: int = _HIGH) -> Path:
    """Draw a page into a PNG.

    Args:
        chromium: The browser.
        page: An HTML file.
        picture: The PNG; replaced.
        high: Pixels of the window.

    Raises:
        SystemExit: The browser drew nothing.
    """
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="evidence-shot-") as profile:
        command = [
            *(str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={profile}", f"--window-size={_WIDE},{high}"),
            *(f"--screenshot={picture.absolute()}", page.absolute().as_uri()),
        ]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
    if not picture.is_file():
        raise SystemExit(f"{chromium} drew nothing: {done.stderr.strip()[-500:]}")
    return picture


if __name__ == "__main__":
    main()
