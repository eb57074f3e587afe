"""Scenes: the same seed draws the same frame, and what is said of a frame is true of it."""

from __future__ import annotations

import numpy as np
import pytest

from reelsight.errors import ConfigError
from reelsight.samples.canvas import Pixels
from reelsight.samples.compatibility import compatible, conflicts
from reelsight.samples.scene import compose, draw_labels
from reelsight.samples.vocabulary import group_of, names

SIZE = (120, 160)


def drawn(label: str, seed: int = 0, t: float = 0.0, background: Pixels | None = None) -> Pixels:
    frame, true = compose(np.random.default_rng(seed), [label], SIZE, background, t)
    assert true == {label}
    return frame


def photo(seed: int = 3) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (6, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 20, axis=0), 20, axis=1)


@pytest.mark.parametrize("label", names())
def test_every_label_can_be_drawn_and_is_the_only_truth(label: str) -> None:
    for seed, background in ((1, None), (2, photo())):
        frame, true = compose(np.random.default_rng(seed), [label], (150, 150), background, 0.5)
        assert frame.shape == (150, 150, 3)
        assert frame.dtype == np.uint8
        assert true == {label}


@pytest.mark.parametrize("label", names())
def test_a_seed_draws_the_same_frame_again(label: str) -> None:
    assert np.array_equal(drawn(label, seed=9, t=0.3), drawn(label, seed=9, t=0.3))


def test_another_seed_draws_another_frame() -> None:
    assert not np.array_equal(drawn("qr_code", seed=1), drawn("qr_code", seed=2))


def test_a_scene_moves_without_jumping() -> None:
    before, soon = (drawn("plain_photo", 5, t).astype(int) for t in (0.5, 0.52))
    later = drawn("plain_photo", 6, 0.5).astype(int)
    assert np.abs(before - soon).mean() < 0.5 * np.abs(before - later).mean()


def test_blank_frames_are_what_they_are_called() -> None:
    assert drawn("black_screen").max() < 32
    assert drawn("white_screen").min() > 224
    assert drawn("solid_color").std(axis=(0, 1)).max() < 4
    assert drawn("static_noise").std() > 40


def test_tone_and_exposure_hold_for_every_pixel_or_on_average() -> None:
    grey = drawn("black_and_white", background=photo()).astype(int)
    assert np.ptp(grey, axis=2).max() == 0
    assert drawn("underexposed", background=photo()).mean() < 45
    assert drawn("overexposed", background=photo()).mean() > 190
    inverted = drawn("negative", 4, background=photo()).astype(int)
    plain = drawn("plain_photo", 4, background=photo()).astype(int)
    assert np.array_equal(inverted, 255 - plain)


def test_bars_are_black_where_the_name_says() -> None:
    wide = drawn("letterbox", background=photo())
    tall = drawn("pillarbox", background=photo())
    assert max(wide[:9].max(), wide[-9:].max()) < 20
    assert max(tall[:, :12].max(), tall[:, -12:].max()) < 20


def test_random_labels_never_conflict_and_truth_never_exceeds_what_was_wanted() -> None:
    rng = np.random.default_rng(0)
    several = 0
    for _ in range(150):
        wanted = draw_labels(rng)
        assert not conflicts(wanted)
        _, true = compose(rng, wanted, SIZE, photo(), float(rng.random()))
        assert true <= wanted | {"plain_photo"}
        several += len(true) > 1
    assert several > 30


def test_an_overlay_without_room_is_left_out_of_the_truth() -> None:
    wanted = ["countdown", "qr_code", "barcode"]
    counts = [len(compose(np.random.default_rng(s), wanted, (96, 96))[1]) for s in range(20)]
    assert min(counts) < 3
    assert min(counts) > 0


def test_what_fills_the_frame_is_exclusive() -> None:
    blanks = [name for name in names() if group_of(name) == "blank"]
    for blank in blanks:
        assert not any(compatible(blank, other) for other in names() if other != blank)
    assert not compatible("mosaic", "snow")
    assert all(compatible(a, b) == compatible(b, a) for a in names() for b in names())


def test_conflicting_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="black_screen"):
        compose(np.random.default_rng(0), ["black_screen", "qr_code"], SIZE)
