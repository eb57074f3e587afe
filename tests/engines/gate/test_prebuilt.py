"""Built for a machine that is not here, judged where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engines.backend import Artifact, BuildRequest, BuildWatch, Target
from engines.gate.prebuilt import build_for, judge_package, sm_of
from engines.gate.thresholds import Thresholds
from engines.package.directory import open_package
from engines.package.registry import Registry
from engines.package.signing import Trust
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_backend import OrtBackend
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.errors import ConfigError, EngineError, PackageError
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.model import Model


class CrossBuilder(OrtBackend):
    """Names itself a cross-builder, and a GPU as the target of what the CPU built."""

    def __init__(self, builds_for: str) -> None:
        super().__init__("onnxruntime-cpu")
        self._builds_for = builds_for

    @property
    def name(self) -> str:
        return "tensorrt-rtx"

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        made = OrtBackend("onnxruntime-cpu").build(replace(request, options={}), directory, watch)
        target = Target(made.target.os, made.target.arch, self._builds_for, None, {})
        return replace(made, target=target)


def build(model: Model, directory: Path, builds_for: str = "8.9") -> None:
    build_for(
        CrossBuilder(builds_for),
        "8.9",
        model=model,
        precision="fp32",
        buckets=(8,),
        calibration=None,
        directory=directory,
        watch=BuildWatch(),
    )


@pytest.mark.parametrize(
    ("text", "sm"), [("sm_89", "8.9"), ("89", "8.9"), ("8.9", "8.9"), ("sm_120", "12.0")]
)
def test_a_target_is_read(text: str, sm: str) -> None:
    assert sm_of(text) == sm


@pytest.mark.parametrize("text", ["", "9", "sm_", "8.9.1", "ada", "089", "-89", "sm_8900"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sm_of(text)
    assert caught.value.code == "config.target"


def test_a_package_for_another_machine_is_published_unjudged(model: Model, tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    build(model, tmp_path / "built")
    package = open_package(tmp_path / "built", Trust())
    assert package.manifest.refusal == "it was never put through the gate"
    assert package.manifest.target.sm == "8.9"
    registry = Registry(str(tmp_path / "registry"), Trust())
    with pytest.raises(PackageError) as caught:
        registry.push(package)
    assert caught.value.code == "package.ungated"
    assert registry.push(package, ungated=True) == package.manifest.path


def test_a_builder_that_builds_for_another_machine_is_caught(model: Model, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        build(model, tmp_path, builds_for="9.0")
    assert caught.value.code == "engine.other_target"


def test_a_package_of_this_machine_is_judged_anew(
    model: Model,
    reference: OrtCpuEngine,
    frames: FrameSet,
    bank: LabelBank,
    limits: Callable[[str], Thresholds],
    tmp_path: Path,
) -> None:
    (tmp_path / "built").mkdir()
    build(model, tmp_path / "built")
    package = open_package(tmp_path / "built", Trust())
    here = OrtBackend("onnxruntime-cpu").probe().target
    assert here is not None
    package = replace(package, manifest=replace(package.manifest, target=here))
    for place, decisions, outcome in (("good", 0.9, "passed"), ("bad", 1.1, "failed")):
        (tmp_path / place).mkdir()
        manifest = judge_package(
            package,
            reference,
            frames,
            bank,
            model=model,
            directory=tmp_path / place,
            thresholds=replace(limits("fp32"), decisions=decisions),
        )
        assert [a.outcome for a in manifest.attempts] == [outcome]
        assert open_package(tmp_path / place, Trust()).manifest == manifest
        assert (manifest.refusal is None) == (outcome == "passed")
