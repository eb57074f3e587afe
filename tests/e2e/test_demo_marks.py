"""The part of the demo that names who leaked a copy, with the reference pair."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.evidence_shot import shoot
from tests.made_films import Film, write_film
from tests.reference_pair import write_pair

ROOT = Path(__file__).parents[2]
_INSTALLED = shutil.which("chromium")
BROWSERS = (ROOT / ".chromium" / "chromium", Path(_INSTALLED) if _INSTALLED else None)


def test_the_right_recipient_is_named(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    # Where the demo looks for its commands: this interpreter, and the library beside it.
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_ / "reelsight").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m reelsight.cli.app "$@"\n'
    )
    for path in bin_.iterdir():
        path.chmod(0o755)
    asset = write_film(tmp_path / "film.mp4", Film(frames=72, width=480, height=270))
    pair = write_pair(tmp_path / "pair")
    done = subprocess.run(
        ["bash", "scripts/demo_marks.sh", bin_, tmp_path / "demo", pair, asset, "36"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = done.stdout[done.stdout.index("IDENTIFIED") :]
    assert "studio-7: copy " in verdict
    assert "adjusted p 10^-" in verdict
    assert "best view: the middle 95 %" in verdict
    assert "studio-4" not in verdict
    assert "studio-9" not in verdict
    page = tmp_path / "demo" / "evidence.html"
    assert "studio-7" in page.read_text()
    _look_at(page, tmp_path / "evidence.png")


def _look_at(page: Path, picture: Path) -> None:
    """What a browser draws of the page: words and pictures on a light ground."""
    browser = next((path for path in BROWSERS if path is not None and path.exists()), None)
    if browser is None:
        pytest.skip("no chromium: make test fetches one where apt-get can")
    shot = np.asarray(Image.open(shoot(browser, page, picture)).convert("L"))
    assert shot.shape == (1500, 1100)
    assert np.median(shot) > 200
    # Rows of words all down to where thumbnails begin, and more greys than words have.
    assert (shot < 100).any(axis=1).mean() > 0.2
    assert len(np.unique(shot)) > 64
