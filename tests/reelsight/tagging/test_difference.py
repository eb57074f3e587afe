"""What counts as gained, lost and moved, and which clips are named first."""

from __future__ import annotations

import numpy as np

from reelsight.tagging import Changes, ClipChange, TagDifference, changes_of


def test_moved_is_asked_only_of_what_is_shown_twice() -> None:
    before = np.array([True, True, True, False, False, True])
    after = np.array([True, True, True, True, False, False])
    shift = np.array([0.0, 0.05, 0.0499, 0.9, 0.9, 0.9])
    assert changes_of(before, after, shift) == Changes(before=4, after=4, gained=1, lost=1, moved=1)


def test_parts_add_up_and_the_most_changed_come_first() -> None:
    found = TagDifference(["new", "unseen"], keep=2)
    found.add(
        {"a": {"cat": (0.75, 1.0)}, "b": {"cat": (0.75, 0.5), "dog": (0.5, 1.0)}, "gone": {}},
        {"a": {"cat": (0.75, 1.0)}, "b": {"cat": (0.75, 0.75), "new": (0.5, 1.0)}},
    )
    found.add({"c": {"cat": (0.5, 1.0)}}, {"c": {}, "later": {"cat": (1.0, 1.0)}})
    found.add({"d": {"cat": (0.5, 1.0)}}, {"d": {"cat": (0.5625, 1.0)}})
    assert {d.label: d.changes for d in found.labels} == {
        "cat": Changes(before=4, after=3, lost=1, moved=2),
        "dog": Changes(before=1, lost=1),
        "new": Changes(after=1, gained=1),
        "unseen": Changes(),
    }
    assert [d.label for d in found.labels] == ["cat", "dog", "new", "unseen"]
    assert [d.in_bank for d in found.labels] == [False, False, True, True]
    assert (found.clips, found.changed, found.apart) == (4, 3, 2)
    # Two labels exchanged and one moved, before one lost; what only moved has no place left.
    assert found.most == [
        ClipChange("b", ("new",), ("dog",), ("cat",)),
        ClipChange("c", (), ("cat",), ()),
    ]
