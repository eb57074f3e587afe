"""Sample clips: real files whose frames, times and scenes are those of their truth."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from reelsight.errors import ConfigError
from reelsight.samples import SampleClip, write_samples


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SampleClip]]:
    directory = tmp_path_factory.mktemp("samples")
    return directory, write_samples(directory, count=8, seed=1, seconds=(1.0, 1.4))


def test_truth_covers_each_clip_without_gaps(written: tuple[Path, list[SampleClip]]) -> None:
    for clip in written[1]:
        assert clip.truth[0].start_s == 0.0
        assert clip.truth[-1].end_s == clip.duration_s
        assert all(a.end_s == b.start_s for a, b in pairwise(clip.truth))
        assert set(clip.expected) == {part.label for part in clip.truth}


def test_files_decode_to_the_frames_that_were_promised(
    written: tuple[Path, list[SampleClip]],
) -> None:
    codecs, turned = set(), 0
    for clip in written[1]:
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            codecs.add(stream.codec.canonical_name)
            rate = stream.average_rate
            assert rate is not None
            frames = list(container.decode(stream))
        assert len(frames) == round(clip.duration_s * float(rate))
        times = np.asarray([frame.time for frame in frames])
        assert np.allclose(np.diff(times), 1 / float(rate), atol=2e-3)
        turned += frames[0].rotation != 0
    assert {"h264", "hevc", "av1"} <= codecs
    assert turned == 1


def test_a_cut_is_at_the_frame_that_truth_names(written: tuple[Path, list[SampleClip]]) -> None:
    cuts = 0
    for clip in written[1]:
        with av.open(str(clip.path)) as container:
            frames = [
                frame.reformat(48, 48, format="rgb24").to_ndarray().astype(int)
                for frame in container.decode(video=0)
            ]
        rate = len(frames) / clip.duration_s
        for part in clip.truth[1:]:
            at = round(part.start_s * rate)
            change = np.abs(frames[at] - frames[at - 1]).mean()
            still = np.abs(frames[at - 1] - frames[at - 2]).mean()
            assert change > max(4.0, 2 * still)
            cuts += 1
    assert cuts > 2


def test_manifest_and_truth_tell_the_same(written: tuple[Path, list[SampleClip]]) -> None:
    directory, clips = written
    rows = pq.read_table(directory / "manifest.parquet").to_pylist()
    assert [row["clip_id"] for row in rows] == [clip.clip_id for clip in clips]
    assert all(Path(row["uri"]).is_file() for row in rows)
    truth = json.loads((directory / "truth.json").read_text(encoding="utf-8"))["clips"]
    for row, told, clip in zip(rows, truth, clips, strict=True):
        assert tuple(row["expected"]) == tuple(told["expected"]) == clip.expected
        assert told["truth"][-1]["end_s"] == clip.duration_s


def test_the_same_seed_writes_the_same_truth(
    written: tuple[Path, list[SampleClip]], tmp_path: Path
) -> None:
    again = write_samples(tmp_path, count=2, seed=1, seconds=(1.0, 1.4))
    assert [clip.truth for clip in again] == [clip.truth for clip in written[1][:2]]


def test_a_clip_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 clips"):
        write_samples(tmp_path, count=0)
