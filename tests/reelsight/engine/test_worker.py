from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from reelsight.engine import EngineWorker, FakeEngine, fake_spec
from reelsight.errors import EngineError
from reelsight.nouns.report import Failure
from reelsight.nouns.schema import FAILURE_TYPE


def rows(*clips: tuple[str, int, bytes | None], failed: Failure | None = None) -> pa.Table:
    failure = None
    if failed:
        failure = {"stage": failed.stage, "code": failed.code, "message": failed.message}
    return pa.table(
        {
            "clip_id": [name for name, _, _ in clips],
            "pts": pa.array([[float(i) for i in range(n)] for _, n, _ in clips]),
            "pixels": pa.array([pixels for _, _, pixels in clips], pa.large_binary()),
            "failure": pa.array(
                [failure if pixels is None else None for _, _, pixels in clips], FAILURE_TYPE
            ),
        }
    )


def frames(n: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)


def test_both_doors_of_the_worker_give_the_same_bits() -> None:
    worker = EngineWorker(FakeEngine, fake_spec())
    a, b = frames(5, 1), frames(3, 2)
    table = worker(rows(("a", 5, a.tobytes()), ("b", 3, b.tobytes())))
    direct = [worker.run(pixels).astype(np.float16).tobytes() for pixels in (a, b)]
    worker.close()
    assert table["clip_id"].to_pylist() == ["a", "b"]
    assert table["embeddings"].to_pylist() == direct
    assert "pixels" not in table.column_names
    assert all(seconds >= 0 for seconds in table["engine_s"].to_pylist())


def test_a_row_without_frames_keeps_its_failure_and_costs_nothing() -> None:
    worker = EngineWorker(FakeEngine, fake_spec())
    dead = Failure("fetch", "fetch.missing", "gone", "look again")
    table = worker(rows(("gone", 0, None), ("a", 1, frames(1, 1).tobytes()), failed=dead))
    worker.close()
    assert [f and f["code"] for f in table["failure"].to_pylist()] == ["fetch.missing", None]
    assert table["embeddings"][0].as_py() is None
    assert table["engine_s"][0].as_py() == 0


def test_a_clip_whose_pixels_do_not_fit_its_times_fails_alone() -> None:
    worker = EngineWorker(FakeEngine, fake_spec())
    pixels = frames(3, 1).tobytes()
    table = worker(rows(("short", 4, pixels), ("good", 3, pixels)))
    worker.close()
    failure, none = table["failure"].to_pylist()
    assert failure["code"] == "engine.bad_input"
    assert "36864 pixel bytes for 4 frames" in failure["message"]
    assert none is None
    assert table["embeddings"][1].as_py() is not None


def test_a_broken_engine_is_nobodys_dead_letter() -> None:
    class Broken(FakeEngine):
        def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise RuntimeError("device lost")

    worker = EngineWorker(Broken, fake_spec())
    with pytest.raises(EngineError, match="device lost"):
        worker(rows(("a", 1, frames(1, 1).tobytes())))
    worker.close()


@pytest.mark.parametrize("fault", ["spec", "warmup"])
def test_an_engine_that_is_not_taken_is_closed(fault: str) -> None:
    closed = []

    class Watched(FakeEngine):
        def warmup(self) -> None:
            raise EngineError("no memory")

        def close(self) -> None:
            closed.append(self)
            super().close()

    wanted = fake_spec() if fault == "warmup" else fake_spec(buckets=(3,))
    with pytest.raises(EngineError):
        EngineWorker(Watched, wanted)
    assert len(closed) == 1


def test_an_engine_that_is_not_the_plans_is_refused() -> None:
    with pytest.raises(EngineError, match="the plan says") as caught:
        EngineWorker(FakeEngine, fake_spec(buckets=(8,)))
    assert caught.value.code == "engine.other_spec"
