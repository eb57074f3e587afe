from __future__ import annotations

import pytest

from reelsight.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a.mp4?endpoint_override=h&token=SECRET", "s3://bucket/a.mp4"),
        ("s3://KEY:SEC/RET@bucket/p", "s3://bucket/p"),
        ("gs://user:SE@CRET@bucket/p", "gs://bucket/p"),
        ("https://SECRET@host:8080/p", "https://host:8080/p"),
        ("cannot parse 's3://k:SEC/RET@b/p' here", "cannot parse 's3://b/p' here"),
        ("s3://bucket/clip@2x.mp4", "s3://bucket/clip@2x.mp4"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("/disk/what?.mp4", "/disk/what?.mp4"),
    ],
)
def test_secrets_go_and_names_stay(text: str, shown: str) -> None:
    assert redacted(text) == shown
