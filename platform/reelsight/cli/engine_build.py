"""`reelsight engine build`, `prebuild` and `gate`: what needs frames, a bank and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import is_terminal, print_json
from reelsight.cli.engine_frames import needs_ranges, ranges_of
from reelsight.cli.engine_subject import Subject, SubjectPairOption, subject_of
from reelsight.cli.engine_words import show_built
from reelsight.errors import ConfigError
from reelsight.settings import Settings

if TYPE_CHECKING:
    from engines.backend import BuildWatch
    from engines.gate.ladder import BuildOrder
    from engines.package.directory import EnginePackage
    from engines.package.fetch import PackageRef
    from engines.package.manifest import PackageManifest
    from reelsight.engine.protocol import Engine

__all__ = ["build", "find_package", "gate", "load", "prebuild"]

RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", help="Directory or s3:// of packages; engine.registry by default."),
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32, fp16, fp16-norms32, bf16, int8, int8-fp32 or fp8."),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        help="onnxruntime-cpu, onnxruntime-cuda, aotinductor, tensorrt or tensorrt-rtx.",
    ),
]
FramesOption = Annotated[
    Path | None,
    typer.Option(
        "--frames",
        help="Directory or manifest of clips, or a frame set; for reelsight-mini alone the "
        "sample generator's scenes by default.",
    ),
]
CountOption = Annotated[
    int, typer.Option("--count", min=16, help="Clean frames to take from the clips.")
]
MethodOption = Annotated[str, typer.Option("--calibration", help="minmax, entropy or percentile.")]
SignOption = Annotated[
    Path | None, typer.Option("--sign-with", help="File of a private key; see keygen.")
]
BackendOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="One of the backend's own, e.g. optimization_level=5."),
]
FallbackOption = Annotated[
    bool,
    typer.Option(
        "--fallback/--no-fallback", help="Go down to a higher precision when the gate says no."
    ),
]
RebuildOption = Annotated[
    bool, typer.Option("--rebuild", help="Build again what this node has built before.")
]
BenchOption = Annotated[
    float, typer.Option("--bench-seconds", min=0.0, help="Of each measurement; 0 for none.")
]


def build(
    precision: PrecisionOption,
    backend: BackendOption = "onnxruntime-cpu",
    frames: FramesOption = None,
    count: CountOption = 600,
    calibration: MethodOption = "entropy",
    fallback: FallbackOption = True,
    rebuild: RebuildOption = False,
    bench_s: BenchOption = 1.0,
    sign_with: SignOption = None,
    option: BackendOptions = None,
    pair: SubjectPairOption = None,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    registry: RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Build a package, put it through the gate, and publish it; exits with 1 when it fails.

    Workers of one node that ask for the same build at a time wait for the one that builds.
    """
    from engines.catalog import registry_of
    from engines.gate.ladder import BuildOrder
    from engines.package.backends import backend_named
    from engines.precision.calibration import method_named
    from engines.precision.plan import plan_named

    settings = load(config, model=model, bank=bank, registry=registry)
    place, key = registry_of(settings), _signing_key(sign_with)
    builder, plan, method = backend_named(backend), plan_named(precision), method_named(calibration)
    chosen = dict(options.assignment(text) for text in option or [])
    subject = subject_of(settings, pair)
    judging, truth = subject.collect(frames, count)
    watch = _watch()
    order = BuildOrder(
        model=subject.model,
        precision=plan.name,
        backend=builder,
        buckets=settings.engine.buckets,
        frames=judging.gate,
        bank=truth,
        frames_words=judging.words,
        calibration=ranges_of(settings, subject.model, plan, builder, judging, method, watch),
        options=chosen,
        fallback=fallback,
        bench_s=bench_s or None,
        threads=settings.engine.threads,
    )
    package = _obtain(settings, order, subject, watch, key, rebuild=rebuild)
    manifest = package.manifest
    published = place.push(package) if manifest.refusal is None else None
    show_built(json_, place, manifest, package.directory, published)
    if published is None:
        raise typer.Exit(1)


def prebuild(
    precision: PrecisionOption,
    target: Annotated[
        list[str], typer.Option("--target", help="GPU type by compute capability, such as sm_89.")
    ],
    backend: BackendOption = "tensorrt-rtx",
    frames: FramesOption = None,
    count: CountOption = 600,
    calibration: MethodOption = "entropy",
    sign_with: SignOption = None,
    pair: SubjectPairOption = None,
    model: options.ModelOption = None,
    registry: RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Build packages for GPUs that are not here, and publish them ungated.

    Nothing serves an ungated package: `reelsight engine gate` judges it on a machine that has the
    GPU, and publishes it anew.
    """
    from engines.catalog import registry_of
    from engines.gate.prebuilt import build_for, require_cross_builder, sm_of
    from engines.package.backends import backend_named
    from engines.package.directory import open_package
    from engines.package.signing import Trust
    from engines.precision.calibration import method_named
    from engines.precision.plan import plan_named

    settings = load(config, model=model, registry=registry)
    place, key = registry_of(settings), _signing_key(sign_with)
    builder, plan, method = backend_named(backend), plan_named(precision), method_named(calibration)
    require_cross_builder(builder)
    targets = [sm_of(text) for text in target]
    subject = subject_of(settings, pair)
    watch = _watch()
    ranges = None
    if needs_ranges(plan, builder):
        judging, _ = subject.collect(frames, count)
        ranges = ranges_of(settings, subject.model, plan, builder, judging, method, watch)
    for sm in targets:
        with _scratch(settings) as scratch:
            build_for(
                builder,
                sm,
                model=subject.model,
                precision=plan.name,
                buckets=settings.engine.buckets,
                calibration=ranges,
                directory=scratch,
                watch=watch,
                signing_key=key,
            )
            path = place.push(open_package(scratch, Trust()), ungated=True)
        facts = {"target": sm, "path": path, "registry": place.name, "gated": False}
        if json_:
            print_json(facts)
        else:
            typer.echo(f"{path} is in {place.name}, ungated")


def gate(
    package: Annotated[
        str, typer.Argument(help="A package's path in the registry, or its directory.")
    ],
    frames: FramesOption = None,
    count: CountOption = 600,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="Publish it with this verdict if it passed; take it out of the registry if not.",
        ),
    ] = False,
    sign_with: SignOption = None,
    pair: SubjectPairOption = None,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    registry: RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Put a package through the gate on this machine; exits with 1 when it does not pass."""
    from engines.catalog import registry_of
    from engines.gate.prebuilt import judge_package
    from engines.package.directory import open_package
    from engines.package.signing import Trust

    settings = load(config, model=model, bank=bank, registry=registry)
    place, key = registry_of(settings), _signing_key(sign_with)
    subject = subject_of(settings, pair)
    found = find_package(settings, package)
    judging, truth = subject.collect(frames, count)
    with _scratch(settings) as scratch:
        manifest = _use_reference(
            subject,
            lambda engine: judge_package(
                found,
                engine,
                judging.gate,
                truth,
                model=subject.model,
                frames_words=judging.words,
                directory=scratch,
                threads=settings.engine.threads,
                signing_key=key,
            ),
        )
        published = None
        if publish and manifest.refusal is None:
            published = place.push(open_package(scratch, Trust()))
        elif publish:
            # It was published on another verdict, which this one overrules.
            place.withdraw(found.manifest.path, found.manifest_sha256)
    show_built(json_, place, manifest, None, published)
    if manifest.refusal is not None:
        raise typer.Exit(1)


def load(
    config: Path | None,
    *,
    model: str | None = None,
    bank: str | None = None,
    registry: str | None = None,
) -> Settings:
    """Settings of the engine commands.

    Raises:
        ConfigError: A value does not fit.
    """
    return Settings.load(config, {"model": model, "bank": bank, "engine.registry": registry})


def find_package(settings: Settings, package: str) -> EnginePackage:
    """A verified package by its directory or by its path in the registry, which copies it here.

    Raises:
        PackageError: There is none, or it cannot be used.
    """
    from engines.catalog import registry_of
    from engines.package.directory import open_package
    from engines.package.fetch import fetch_package, reference

    place = registry_of(settings)
    if Path(package).is_dir():
        return open_package(Path(package), place.trust)
    ref: PackageRef = reference(place, place.find(package), settings.packages_dir)
    return fetch_package(ref)


def _obtain(
    settings: Settings,
    order: BuildOrder,
    subject: Subject,
    watch: BuildWatch,
    key: bytes | None,
    *,
    rebuild: bool,
) -> EnginePackage:
    """The built package; built by this process, or by another one of this node."""
    from engines.gate.ladder import build_gated
    from engines.package.directory import open_package
    from engines.package.node_cache import NodeCache
    from engines.package.signing import Trust, key_id

    cache = NodeCache(settings.cache_dir / "engine-builds")
    entry = order.key if key is None else f"{order.key}-{key_id(key)}"
    if rebuild:
        cache.discard(entry)
    return cache.obtain_whole(
        entry,
        lambda scratch: _use_reference(
            subject,
            lambda engine: build_gated(order, engine, scratch, watch=watch, signing_key=key),
        ),
        lambda directory: open_package(directory, Trust()),
        on_wait=lambda pid: typer.echo(f"process {pid} builds it; waiting", err=True),
    )


def _use_reference(subject: Subject, use: Callable[[Engine], PackageManifest]) -> PackageManifest:
    """Open the FP32 engine on the CPU, use it, close it."""
    engine = subject.open_reference()
    try:
        return use(engine)
    finally:
        engine.close()


def _signing_key(path: Path | None) -> bytes | None:
    from engines.package.signing import key_id

    if path is None:
        return None
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"no private key: {error}", code="config.key") from error
    key_id(key)  # Said before anything is built.
    return key


def _watch() -> BuildWatch:
    from engines.backend import BuildWatch

    def say(phase: str, part: float) -> None:
        typer.echo(f"\r{phase} {part:.0%}   ", nl=False, err=True)

    return BuildWatch(say if is_terminal() else None)


@contextmanager
def _scratch(settings: Settings) -> Iterator[Path]:
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".engine-", dir=settings.cache_dir) as name:
        yield Path(name)
