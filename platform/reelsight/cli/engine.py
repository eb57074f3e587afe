"""`reelsight engine`: build, gate, publish and look at engine packages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reelsight.cli import engine_build, options
from reelsight.cli.console import print_json, show_lines, show_table
from reelsight.cli.engine_subject import SubjectPairOption, subject_of
from reelsight.cli.engine_words import manifest_lines

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Engine packages: build, gate, publish, look.")
app.command(name="build")(engine_build.build)
app.command(name="prebuild")(engine_build.prebuild)
app.command(name="gate")(engine_build.gate)

PackageArgument = Annotated[
    str, typer.Argument(help="A package's path in the registry, or its directory.")
]


@app.command(name="list")
def list_(
    model: options.ModelOption = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Wanted precision; auto by default.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="Wanted backend; auto by default.")
    ] = None,
    pair: SubjectPairOption = None,
    registry: engine_build.RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List the registry's packages: which one would run here, and why each other one would not."""
    from engines.catalog import registry_of
    from engines.package.negotiator import AUTO, Wish, negotiate

    settings = engine_build.load(config, model=model, registry=registry)
    wish = Wish(subject_of(settings, pair).model, precision or AUTO, backend or AUTO)
    place = registry_of(settings)
    negotiation = negotiate(wish, place.list())
    if json_:
        for verdict in negotiation.verdicts:
            print_json(verdict.document())
        return
    show_table(
        ["", "backend", "precision", "why", "package"],
        [
            ("*" if v.chosen else "", v.backend, v.precision, v.reason, v.path)
            for v in negotiation.verdicts
        ],
        title=place.name,
    )


@app.command()
def inspect(
    package: PackageArgument,
    registry: engine_build.RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Show a package's manifest; of a directory every file is verified too."""
    from engines.catalog import registry_of
    from engines.package.directory import open_package

    settings = engine_build.load(config, registry=registry)
    place = registry_of(settings)
    if Path(package).is_dir():
        found = open_package(Path(package), place.trust)
        manifest, signed_by = found.manifest, found.signed_by
    else:
        listed = place.find(package)
        manifest, signed_by = listed.require(), listed.signed_by
    if json_:
        print_json({**asdict(manifest), "signed_by": signed_by, "refusal": manifest.refusal})
        return
    show_lines(manifest.path, manifest_lines(manifest, signed_by))


@app.command()
def bench(
    package: PackageArgument,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Of each measurement.")
    ] = 3.0,
    pair: SubjectPairOption = None,
    model: options.ModelOption = None,
    registry: engine_build.RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Measure a package here: latency of one frame, frames a second of every batch size."""
    from engines.package.benchmark import measure_engine
    from engines.package.fetch import open_verified

    settings = engine_build.load(config, model=model, registry=registry)
    found = engine_build.find_package(settings, package)
    wanted = subject_of(settings, pair).model
    threads = settings.engine.threads
    engine = open_verified(found, wanted, threads=threads)
    try:
        measured = measure_engine(engine, seconds=seconds, threads=threads)
    finally:
        engine.close()
    measured |= {"package": found.manifest.path}
    if json_:
        print_json(measured)
        return
    latency = measured["latency_ms"]
    show_lines(
        found.manifest.path,
        [
            f"one frame: p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms over "
            f"{latency['runs']} runs",
            *(f"batch {n}: {speed:.1f} frames/s" for n, speed in measured["buckets"].items()),
            f"on: {measured['machine']['cpu']}, {threads} CPU threads",
            f"protocol: {measured['protocol']}; {seconds:g} s each",
        ],
    )


@app.command()
def push(
    directory: Annotated[Path, typer.Argument(help="Directory of a package.")],
    registry: engine_build.RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Publish a package; one that did not pass the gate is refused."""
    from engines.catalog import registry_of
    from engines.package.directory import open_package

    settings = engine_build.load(config, registry=registry)
    place = registry_of(settings)
    path = place.push(open_package(directory, place.trust))
    _say(json_, {"path": path, "registry": place.name}, f"{path} is in {place.name}")


@app.command()
def pull(
    package: Annotated[str, typer.Argument(help="A package's path in the registry.")],
    registry: engine_build.RegistryOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Copy a package to this node and verify it."""
    settings = engine_build.load(config, registry=registry)
    found = engine_build.find_package(settings, package)
    facts = {"path": found.manifest.path, "directory": str(found.directory)}
    _say(json_, {**facts, "signed_by": found.signed_by}, f"{package} is in {found.directory}")


@app.command()
def keygen(
    output: Annotated[Path, typer.Argument(help="File for the private key; it must not exist.")],
    json_: options.JsonOption = False,
) -> None:
    """Make a key pair: the private key into a file, the public one for engine.trusted_keys."""
    import os

    from engines.package.signing import generate_key, public_key
    from reelsight.errors import ConfigError

    private = generate_key()
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(private)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}", code="config.key") from error
    public = public_key(private)
    _say(json_, {"private": str(output), "public": public}, public)


def _say(as_json: bool, facts: dict[str, Any], words: str) -> None:
    if as_json:
        print_json(facts)
    else:
        typer.echo(words)
