"""The arithmetic of plans, over numbers that a hand can follow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reelsight.capacity.estimate import estimate
from reelsight.capacity.measured import Measured
from reelsight.capacity.pools import read_pools
from reelsight.capacity.prices import Node, Prices, load_prices
from reelsight.errors import ConfigError
from reelsight.settings import Settings

# 100 frames of ten clips: 0.04 core-seconds a frame in front of and behind the engine, 0.06 in it.
ON_CPU = Measured(
    clips=10,
    dead=0,
    frames=(10,) * 10,
    cores=4,
    seconds={"fetch": 0.5, "decode": 3.0, "engine": 6.0, "report": 0.3, "write": 0.2},
    engine="onnxruntime-cpu",
    start_s=2.0,
)
# The same with an engine that does 2000 frames a second on its device.
ON_GPU = replace(ON_CPU, engine="tensorrt", seconds=ON_CPU.seconds | {"engine": 0.05})
CPU = Node(name="c", vcpus=10, usd_per_hour=1.0)
GPU = Node(name="g", vcpus=10, gpus=1, usd_per_hour=3.0)
PRICES = Prices(date="2026-01-01", note="made up", node=(CPU, GPU))


def test_engines_on_cpus_share_the_cores() -> None:
    e = estimate(ON_CPU, 36_000, PRICES, deadline_hours=1.0)
    assert e.frames == 360_000
    assert e.frames_per_s == pytest.approx(4 / 0.1)
    assert e.hours * 3600 == pytest.approx(2.0 + 360_000 / 40)
    assert e.limiting_stage == "engine"
    assert e.stages["decode"] == pytest.approx(100 / 3)
    assert e.cpus_per_engine == pytest.approx(0.04 / 0.06)
    # 100 frames a second are wanted, of 100 a second and node; GPUs cannot run this engine.
    (fleet,) = e.fleets
    assert fleet.nodes == {"c": 1}
    assert [fleet.hours, fleet.usd] == pytest.approx([1.0, 1.0])
    assert fleet.usd_per_million == pytest.approx(1e6 / 360_000)
    # Six tenths of its ten cores for engines, each of which reserves half a core.
    assert (fleet.pools.engine_actors, fleet.pools.decode_tasks) == (6, 7)
    assert estimate(ON_CPU, 36_001, PRICES, 1.0).fleets[0].nodes == {"c": 2}


def test_engines_on_gpus_want_cores_beside_them() -> None:
    e = estimate(ON_GPU, 3_600_000, PRICES, deadline_hours=10.0)
    # Of this machine: its four cores feed 100 frames a second, its device would do 2000.
    assert e.frames_per_s == pytest.approx(4 / 0.04)
    assert e.limiting_stage == "decode"
    assert e.cpus_per_engine == pytest.approx(2000 * 0.04)
    # 1000 a second: 40 cores and half a GPU. One GPU node with three CPU nodes beside it is
    # cheaper than four GPU nodes.
    beside, alone = e.fleets
    assert (beside.nodes, alone.nodes) == ({"g": 1, "c": 3}, {"g": 4})
    assert [beside.usd, alone.usd] == pytest.approx([60.0, 120.0])
    assert beside.pools.engine_actors == 1
    assert beside.pools.engine_gpus == 1.0
    assert beside.pools.decode_tasks == 39
    assert beside.pools.frames_per_s == pytest.approx(1000)


def test_a_slow_device_limits() -> None:
    slow = replace(ON_GPU, seconds=ON_GPU.seconds | {"engine": 10.0})
    e = estimate(slow, 1000, PRICES, 1.0)
    assert e.limiting_stage == "engine"
    assert e.frames_per_s == pytest.approx(10.0)
    assert e.here.engine_actors == 1


def test_a_rate_that_is_given_plans_gpus_from_a_machine_without() -> None:
    e = estimate(ON_CPU, 3_600_000, PRICES, 10.0, gpu_rate=500.0)
    assert {"g": 2, "c": 2} in [fleet.nodes for fleet in e.fleets]
    assert e.on_gpus
    known = PRICES.model_copy(
        update={"node": (CPU, GPU.model_copy(update={"engine_frames_per_s": 1000.0}))}
    )
    assert {"g": 1, "c": 3} in [f.nodes for f in estimate(ON_CPU, 3_600_000, known, 10.0).fleets]


def test_faster_cores_are_fewer() -> None:
    fast = Prices(date="d", node=(CPU.model_copy(update={"core_speed": 2.0}),))
    assert estimate(ON_CPU, 72_000, fast, 1.0).fleets[0].nodes == {"c": 1}


def test_the_error_of_the_sample_is_said() -> None:
    assert ON_CPU.frames_error == 0.0
    assert replace(ON_CPU, clips=1, frames=(7,)).frames_error == 1.0
    # Means of 0 and 20 frames: standard deviation sqrt(200), over sqrt(2), over the mean of 10.
    assert replace(ON_CPU, clips=2, dead=1, frames=(20,)).frames_error == pytest.approx(1.0)


def test_a_plan_is_read_back_where_the_settings_leave_room(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(estimate(ON_CPU, 36_000, PRICES, 1.0).to_json()))
    here, there = read_pools(path, cluster=False), read_pools(path, cluster=True)
    assert (here.decode_tasks, here.engine_actors) == (4, 2)
    settings = there.applied(Settings.load(None, {"ray.decode_tasks": 3}))
    assert (settings.ray.decode_tasks, settings.ray.engine_actors) == (3, 6)
    nodeless = estimate(ON_GPU, 36, Prices(date="d", node=(CPU,)), 1.0)
    path.write_text(json.dumps(nodeless.to_json()))
    with pytest.raises(ConfigError, match="no nodes for a cluster"):
        read_pools(path, cluster=True)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="is not a plan"):
        read_pools(path, cluster=False)


def test_prices_are_toml_or_json_and_are_checked(tmp_path: Path) -> None:
    shipped = load_prices()
    assert shipped.date in shipped.model_dump_json()
    assert {node.gpus for node in shipped.node} == {0, 1}
    given = tmp_path / "mine.json"
    given.write_text(PRICES.model_dump_json())
    assert load_prices(given) == PRICES
    given.write_text('{"date": "d", "node": [{"name": "n", "vcpus": 0, "usd_per_hour": 1}]}')
    with pytest.raises(ConfigError, match=r"node\.0\.vcpus"):
        load_prices(given)
    wrong = tmp_path / "mine.toml"
    wrong.write_text("date =")
    for path in (wrong, tmp_path / "absent.toml"):
        with pytest.raises(ConfigError) as caught:
            load_prices(path)
        assert caught.value.code == "config.prices"
