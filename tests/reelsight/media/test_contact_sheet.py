from __future__ import annotations

import numpy as np
import pytest

from reelsight.media.contact_sheet import contact_sheet
from reelsight.nouns.frames import Frames

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]


def frames(count: int) -> Frames:
    pixels = np.zeros((count, 64, 64, 3), np.uint8)
    pixels[:] = np.array(COLOURS, np.uint8)[:count, None, None]
    return Frames("c", pixels, np.arange(count, dtype=np.float64), float(count), "rate:1", count)


@pytest.mark.parametrize(("aspect", "wide", "high"), [(1.0, 64, 64), (2.0, 64, 32), (0.5, 32, 64)])
def test_frames_lie_in_rows_in_the_shape_of_the_clip(aspect: float, wide: int, high: int) -> None:
    sheet = np.asarray(contact_sheet(frames(4), "four", columns=3, aspect=aspect))
    for colour in COLOURS:
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1) == (high, wide)
        assert len(rows) == wide * high  # No picture covers another, no word covers a picture.
    tops = [np.nonzero((sheet == c).all(axis=2))[0].min() for c in COLOURS]
    assert tops[0] == tops[1] == tops[2] < tops[3]


def test_every_frame_has_words_under_it() -> None:
    bare = np.asarray(contact_sheet(frames(4), "", columns=4))
    below = bare[2 * 16 + 6 + 64 + 1 : 2 * 16 + 6 + 64 + 16]
    for left in (6, 76, 146, 216):
        assert (below[:, left : left + 64] < 100).any()
