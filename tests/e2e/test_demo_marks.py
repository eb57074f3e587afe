"""The part of the demo that names who leaked a copy, with the reference pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.made_films import Film, write_film
from tests.reference_pair import write_pair

ROOT = Path(__file__).parents[2]


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
    assert (tmp_path / "demo" / "evidence.html").stat().st_size > 10_000
