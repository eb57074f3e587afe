"""The Prefer header as RFC 7240 writes it."""

from __future__ import annotations

import pytest

from deployments.jobs.prefer import Preference
from reelsight.errors import RequestError


@pytest.mark.parametrize(
    ("text", "later", "wait_s"),
    [
        ("", False, None),
        ("respond-async", True, None),
        ("Respond-Async", True, None),
        ("respond-async, wait=10", True, 10),
        ("wait=10, respond-async", True, 10),
        ("wait=0", True, 0),
        ('wait="7"', False, 7),
        ("wait = 7 ; foo=bar", False, 7),
        ("wait=1, wait=9", False, 1),
        ("wait=99999999", False, 3600),
        ("return=minimal, handling=strict", False, None),
        ("respond-asynchronously", False, None),
        (",,;=,", False, None),
    ],
)
def test_what_is_preferred(text: str, later: bool, wait_s: int | None) -> None:
    assert Preference.parse(text) == Preference(later, wait_s)


@pytest.mark.parametrize(
    "text", ["wait", "wait=", "wait=-1", "wait=1.5", "wait=²", "wait=" + "9" * 20]
)
def test_waits_that_are_none(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        Preference.parse(text)
    assert (refused.value.code, refused.value.http_status) == ("request.prefer", 400)


@pytest.mark.parametrize(
    ("preference", "size", "seconds", "later"),
    [
        (Preference(), 10, 10.0, False),
        (Preference(), 11, None, True),
        (Preference(), 10, None, False),
        (Preference(), 1, 10.1, True),
        (Preference(wait_s=5), 11, 11.0, False),
        (Preference(later=True), 1, 1.0, True),
        (Preference(later=True, wait_s=5), 1, 1.0, True),
    ],
)
def test_which_clips_become_jobs(
    preference: Preference, size: int, seconds: float | None, later: bool
) -> None:
    assert preference.runs_later(size, seconds, 10, 10.0) is later
