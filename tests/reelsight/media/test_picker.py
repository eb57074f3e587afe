from __future__ import annotations

import av
import numpy as np
import pytest

from reelsight.media.picker import MomentPicker, Picker, ScenePicker, TimePicker, picker_for
from reelsight.media.sampler import Sampling

DARK, LIGHT = (
    av.VideoFrame.from_ndarray(np.full((48, 48), level, np.uint8), format="gray8")
    for level in (40, 200)
)


def picked(
    picker: Picker, stamps: list[float], end_s: float, claimed_s: float | None = None
) -> list[tuple[float, float]]:
    """(pts, time asked for) of all picks of a clip whose pictures are all alike."""
    found = []
    for stamp in stamps:
        found += [(pick.at_s, pick.due_s) for pick in picker.see(stamp, DARK)]
        if picker.done:
            return found
    return found + [(p.at_s, p.due_s) for p in picker.close(end_s, claimed_s or end_s)]


def test_a_time_takes_the_frame_on_display() -> None:
    picker = TimePicker(Sampling(), 3.0, 0.0)
    assert picked(picker, [0, 0.9, 1.9, 2.1, 2.9], 3.0) == [(0, 0), (0.9, 1), (1.9, 2)]
    assert picker.done


def test_the_last_frame_serves_what_is_left_of_a_clip_but_not_what_is_missing() -> None:
    assert picked(TimePicker(Sampling(), None, 0.0), [0, 0.9], 2.5) == [(0, 0), (0.9, 1), (0.9, 2)]
    broke_off = TimePicker(Sampling(), None, 0.0)
    assert picked(broke_off, [0, 0.9], 1.5, claimed_s=9) == [(0, 0), (0.9, 1)]


def test_a_moment_whose_frame_never_comes_is_left_out() -> None:
    picker = MomentPicker([(0, 0), (1, 0.8), (1.2, 0.8), (2, 2)], 1e-4)
    assert picked(picker, [0, 0.5, 0.8, 2.5], 3) == [(0, 0), (0.8, 1), (0.8, 1.2)]
    assert picker.done
    assert picker.asked(3) == 4


def test_a_still_picture_is_asked_for_again_and_again() -> None:
    picker = ScenePicker(Sampling("scene", min_gap_s=0.5, max_gap_s=2), whole=True)
    assert picked(picker, [0, 7], 8) == [(0, 0), (0, 2), (0, 4), (0, 6)]
    assert picker.asked(8) == 4


def test_frames_before_the_maximum_gap_are_taken_not_later_than_it() -> None:
    picker = ScenePicker(Sampling("scene", min_gap_s=0.5, max_gap_s=1), whole=True)
    taken = [at for at, _ in picked(picker, [0, 0.6, 1.2, 1.8, 2.4], 3)]
    assert taken == [0, 0.6, 1.2, 1.8, 2.4]


@pytest.mark.parametrize(("whole", "asked"), [(True, 1.5), (False, 1.0)])
def test_a_cut_between_pictures_is_as_early_as_it_can_be(whole: bool, asked: float) -> None:
    picker = ScenePicker(Sampling("scene"), whole)
    picks = [p for at, f in [(0.0, DARK), (1.0, DARK), (1.5, LIGHT)] for p in picker.see(at, f)]
    assert [(pick.at_s, pick.due_s) for pick in picks] == [(0, 0), (1.5, asked)]


def test_each_policy_has_its_picker() -> None:
    names = ["rate:1", "count:2", "keyframe", "keyframe:2", "keyframe+fill:1", "scene"]
    kinds = [type(picker_for(Sampling.parse(name), 4.0, 0.0, True)).__name__ for name in names]
    expected = ["TimePicker", "TimePicker", "KeyPicker", "KeyPicker", "TimePicker", "ScenePicker"]
    assert kinds == expected
