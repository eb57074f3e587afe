from __future__ import annotations

import numpy as np

from reelsight.engine import Engine, FakeEngine, FakeTextTower


def test_the_fake_engine_is_an_engine_with_fixed_answers() -> None:
    engine = FakeEngine()
    assert isinstance(engine, Engine)
    pixels = np.arange(4 * 64 * 64 * 3, dtype=np.uint32).reshape(4, 64, 64, 3) % 251
    rows = engine.run(pixels.astype(np.uint8))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    # Written down so that a change of the fake's answers is noticed: stored results depend on them.
    assert np.allclose(rows[0, :3], [-0.2288, -0.1195, 0.1987], atol=1e-4)


def test_phrases_are_told_apart_and_repeat() -> None:
    tower = FakeTextTower()
    a, b, again = tower.embed_text(["cat", "dog", "cat"])
    assert a.tobytes() == again.tobytes()
    assert abs(float(a @ b)) < 0.9
