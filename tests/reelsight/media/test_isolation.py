"""Clips that hurt their decoder, and a pool of real children: whatever they do costs one clip."""

from __future__ import annotations

import gc
import io
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reelsight.errors import ConfigError, MediaError, ReelsightError, RunError
from reelsight.media.decode import decode
from reelsight.media.decoder import Decoding, InProcess, open_decoder
from reelsight.media.isolation.policy import Isolation
from reelsight.media.isolation.pool import DecodePool, _filled
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.made_clips import even
from tests.reelsight.media.misbehaviour import Misbehaving, order
from tests.reelsight.media.process_tree import alive, children, wait_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

GEOMETRY = Geometry(64)
# Long enough for a small clip on a loaded machine, short enough to wait for in a test.
PATIENCE_S = 3.0


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(Misbehaving(timeout_s=PATIENCE_S, memory_mb=1024)) as pool:
        yield pool


@pytest.fixture
def clip(coded: Callable[..., bytes]) -> bytes:
    return coded(stamps=even(50, 40))


def taken(
    pool: DecodePool, data: bytes, tried: list[int] | None = None, rate: float = 1.0
) -> tuple[Clip, Frames]:
    record = [] if tried is None else tried
    sampling = Sampling(rate=rate)
    return pool.decode("c", "there", data, sampling, GEOMETRY, MediaLimits(), record.append)


def refused(pool: DecodePool, data: bytes, rate: float = 1.0) -> tuple[ReelsightError, list[int]]:
    tried: list[int] = []
    with pytest.raises(ReelsightError) as caught:
        taken(pool, data, tried, rate)
    return caught.value, tried


@pytest.mark.parametrize("policy", [Sampling(), Sampling(policy="count", count=3)])
def test_frames_are_those_of_decoding_here(pool: DecodePool, clip: bytes, policy: Sampling) -> None:
    here = decode("c", "there", clip, policy, GEOMETRY, MediaLimits())
    there = pool.decode("c", "there", clip, policy, GEOMETRY, MediaLimits())
    assert there[0] == here[0]
    assert there[1].pixels.tobytes() == here[1].pixels.tobytes()
    for name in ("clip_id", "end_s", "policy", "asked", "max_error_s", "stopped"):
        assert getattr(there[1], name) == getattr(here[1], name), name
    assert np.array_equal(there[1].pts, here[1].pts)
    assert np.array_equal(there[1].starts, here[1].starts)


@pytest.mark.parametrize("data", [b"no video at all", b"\0\0\0\x18ftypmp42" + bytes(200), b""])
def test_a_refusal_travels_unchanged(pool: DecodePool, data: bytes) -> None:
    with pytest.raises(MediaError) as here:
        decode("c", "there", data, Sampling(), GEOMETRY, MediaLimits())
    there, tried = refused(pool, data)
    assert type(there) is type(here.value)
    assert (there.code, there.message, there.hint, there.stage) == (
        here.value.code,
        here.value.message,
        here.value.hint,
        here.value.stage,
    )
    assert tried == [1]


@pytest.mark.parametrize(
    ("deed", "code", "told"),
    [
        ("segfault", "media.decoder_crashed", "SIGSEGV"),
        ("sigkill", "media.decoder_crashed", "SIGKILL"),
        ("abort", "media.decoder_crashed", "SIGABRT"),
        ("exit", "media.decoder_crashed", "exit 0"),
        ("loop", "media.decoder_timeout", "3 s"),
        ("sleep", "media.decoder_timeout", "3 s"),
        ("cpu", "media.decoder_timeout", "3 s"),
        ("fork_for_ever", "media.decoder_timeout", "3 s"),
        ("balloon", "media.decoder_memory", "1024 MiB"),
        ("close", "media.decoder_crashed", "closed its socket"),
        ("say=garbage", "media.decoder_crashed", "its answer is none"),
        ("say=" + "x" * 70_000, "media.decoder_crashed", "longer than"),
        ('say={"kind":"frames"}', "media.decoder_crashed", "its answer is none"),
        ('say={"kind":"oath","message":""}', "media.decoder_crashed", "its answer is none"),
    ],
)
def test_misbehaviour_costs_its_clip_alone(
    pool: DecodePool, clip: bytes, deed: str, code: str, told: str
) -> None:
    error, tried = refused(pool, order(deed))
    assert (error.code, error.stage, tried) == (code, "decode", [1, 2])
    assert told in error.message
    assert len(error.message) < 4096 + 500
    assert len(taken(pool, clip)[1]) == 2


def test_last_words_are_told(pool: DecodePool) -> None:
    error, _ = refused(pool, order("segfault"))
    assert "about to fall" in error.message
    assert "string_at" in error.message


def test_a_flood_of_stderr_is_read_and_forgotten(clip: bytes) -> None:
    with DecodePool(Misbehaving()) as pool:
        error, tried = refused(pool, order("flood"))
        assert (error.code, tried) == ("media.survived", [1])
        error, tried = refused(pool, order("flood_and_fall"))
        assert (error.code, tried) == ("media.decoder_crashed", [1, 2])
        assert "the end of the flood" in error.message
        assert len(error.message) < 4096 + 500
        assert len(taken(pool, clip)[1]) == 2


def test_an_unexpected_error_is_named_as_it_is_here(pool: DecodePool) -> None:
    error, tried = refused(pool, order("index"))
    assert type(error) is ReelsightError
    assert (error.code, error.message) == ("internal.unexpected", "IndexError: out of range")
    assert tried == [1]


def test_a_child_may_do_nothing_but_decode(pool: DecodePool, tmp_path: Path) -> None:
    bystander = tmp_path / "file"
    bystander.write_text("kept")
    error, _ = refused(pool, order(f"survey={bystander}"))
    assert error.code == "media.surveyed"
    assert "passed: []" in error.message
    assert "environment: {}" in error.message
    assert bystander.read_text() == "kept"


def test_forks_are_refused_or_end_with_the_child(pool: DecodePool, clip: bytes) -> None:
    before = pool.nursery_pid
    error, _ = refused(pool, order("fork"))
    assert error.code in ("internal.unexpected", "media.decoder_crashed")
    assert len(taken(pool, clip)[1]) == 2
    assert pool.nursery_pid == before
    *let_go, _ = children(before)
    assert wait_gone(let_go) == []  # One that was let go may be on its way out.
    assert sum(map(alive, children(before))) == 1


def test_pixels_live_as_long_as_their_array_and_no_longer(pool: DecodePool, clip: bytes) -> None:
    # Only what is this array's or the pool's: others in this process map and open things meanwhile.
    def mapped(address: int) -> bool:
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end = (int(side, 16) for side in line.split()[0].split("-"))
            if start <= address < end:
                return "memfd:reelsight-frames" in line
        return False

    def open_files() -> int:
        names = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
        return sum("memfd:reelsight-" in name for name in names)

    opened = open_files()
    _, frames = taken(pool, clip)
    pixels, pts = frames.pixels[1:], frames.pts
    kept, address = pixels.copy(), pixels.ctypes.data
    del frames
    assert mapped(address)
    taken(pool, clip)  # What is decoded next must not show in what is held.
    assert np.array_equal(pixels, kept)
    pixels[:] = 0  # As writable as an array of one's own.
    del pixels
    assert not mapped(address)
    assert len(pts) == 2
    assert open_files() == opened


def test_a_child_is_replaced_after_its_clips(clip: bytes) -> None:
    with DecodePool(Isolation(recycle_after=2)) as pool:
        workers: list[int] = []
        for _ in range(5):
            taken(pool, clip)
            workers += children(pool.nursery_pid)
        # Two clips each; the third has had one.
    assert len(set(workers)) == 3


def test_threads_share_a_pool(clip: bytes) -> None:
    results: list[int] = []

    def work(pool: DecodePool) -> None:
        results.extend(len(taken(pool, clip)[1]) for _ in range(3))

    with DecodePool(Isolation(), slots=2) as pool:
        threads = [threading.Thread(target=work, args=(pool,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [2] * 12


def test_a_neighbour_is_untouched_while_a_clip_hangs(clip: bytes) -> None:
    with DecodePool(Misbehaving(timeout_s=PATIENCE_S, attempts=1), slots=2) as pool:
        errors: list[ReelsightError] = []
        thread = threading.Thread(target=lambda: errors.append(refused(pool, order("sleep"))[0]))
        thread.start()
        done = 0
        while thread.is_alive():
            done += len(taken(pool, clip)[1]) == 2
        thread.join()
    assert errors[0].code == "media.decoder_timeout"
    assert done > 1


def test_close_leaves_nothing(clip: bytes) -> None:
    pool = DecodePool(Isolation())
    taken(pool, clip)
    nursery = pool.nursery_pid
    pids = [nursery, *children(nursery)]
    assert len(pids) == 2
    pool.close()
    pool.close()
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(RunError) as caught:
        taken(pool, clip)
    assert caught.value.code == "run.no_decoder"


def test_a_pool_that_nobody_holds_is_closed(clip: bytes) -> None:
    pool = DecodePool(Isolation())
    taken(pool, clip)
    nursery = pool.nursery_pid
    del pool
    gc.collect()
    assert not alive(nursery)


def test_a_killed_nursery_is_replaced(clip: bytes) -> None:
    with DecodePool(Isolation()) as pool:
        taken(pool, clip)
        nursery = pool.nursery_pid
        (worker,) = children(nursery)
        os.kill(nursery, signal.SIGKILL)
        assert wait_gone([worker]) == []
        assert len(taken(pool, clip)[1]) == 2


OWNER = """
import sys, threading
from reelsight.media.isolation.policy import Isolation
from reelsight.media.isolation.pool import DecodePool
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.misbehaviour import Misbehaving, order
pool = DecodePool(Misbehaving(timeout_s=600))
def take(data):
    pool.decode("c", "u", data, Sampling(), Geometry(64), MediaLimits(), print)
try:
    take(b"")
except Exception as error:
    print(error.code)
print("busy", flush=True)
take(order("sleep"))
"""


def test_nothing_outlives_a_killed_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    told = [owner.stdout.readline().strip() for _ in range(3)]
    assert told == ["1", "media.unrecognised_container", "busy"]
    (nursery,) = children(owner.pid)
    pids = [nursery, *children(nursery)]
    assert len(pids) == 2
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert wait_gone(pids) == []


def test_without_isolation_it_decodes_here(clip: bytes) -> None:
    decoder = open_decoder(Decoding(isolation=Isolation(enabled=False)), Sampling())
    assert isinstance(decoder, InProcess)
    tried: list[int] = []
    _, frames = decoder.decode("c", "u", clip, Sampling(), GEOMETRY, MediaLimits(), tried.append)
    assert (len(frames), tried) == (2, [1])
    decoder.close()


def test_memory_that_ffmpeg_wants_counts(clip: bytes) -> None:
    large = noisy_clip()
    for memory_mb in (50, 60, 75):
        with DecodePool(Isolation(memory_mb=memory_mb)) as pool:
            # FFmpeg calls a picture for which it got no memory damaged.
            error, tried = refused(pool, large, rate=4.0)
            assert error.code == "media.decoder_memory", memory_mb
            assert tried == [1, 2]
            assert len(taken(pool, clip)[1]) == 2
    with DecodePool(Isolation()) as pool:
        assert len(taken(pool, large, rate=4.0)[1]) == 8


def noisy_clip() -> bytes:
    """Two seconds whose decoding holds several large pictures and packets at a time."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    options = {"preset": "ultrafast", "bf": "3", "refs": "4"}
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 7 * number, axis=1), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_a_machine_without_processes_is_not_the_clips_fault(
    clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with DecodePool(Isolation()) as pool, pytest.raises(RunError) as caught:
        taken(pool, clip)
    assert caught.value.code == "run.no_decoder"


LIMITS = ("timeout_s", "memory_mb", "attempts", "recycle_after", "recycle_mb")


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_positive(name: str) -> None:
    zero: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=f"media.isolation.{name}"):
        Isolation(**zero)


def test_a_clip_in_memory_is_read_only_for_whoever_holds_it() -> None:
    fd = _filled(b"bytes of a clip")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 3)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.pwrite(again, b"x", 0)
        finally:
            os.close(again)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as seen:
            assert bytes(seen) == b"bytes of a clip"
    finally:
        os.close(fd)
