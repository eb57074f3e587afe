"""`python -m benchmarks.engines`: our engines beside what people run, on one device.

Protocol: every contender runs the same image tower in a process of its own; all processes of a
model stay alive and are measured in turn, round after round, one at a time; numbers are medians of
the rounds. Inputs are noise, never zeros. Throughput is of batches back to back on input that is on
the device, timed by the host's clock between synchronisations: torch and transformers get it
normalised and in the tower's own type, ONNX Runtime and ours get uint8 frames and normalise inside.
Latency is of one frame, from uint8 in host memory to a float32 unit embedding in host memory, the
same for all. Pipelined is ours alone: batches from pageable host memory, as many in flight as the
engine has slots; its share is of the rate on the device in the same round. Device memory is what
nvidia-smi shows more of once a process has run the largest batch and nothing else: CUDA's context,
libraries, weights, inputs and work space. eager-fp32 is without TF32; compile-fp16 is torch.compile
with mode reduce-overhead, which is CUDA graphs, and static shapes; transformers-fp16 is its CLIP
tower with SDPA and random weights of its own; ort-fp16 is the file that engine-fp16 is built from;
convolutional towers run channels-last in torch's FP16, cuDNN tuned. Builds and torch.compile's
first compilation ran in parallel with others on the same machine, every batch size counted.
Agreement is the centred cosine of embeddings of drawn frames with eager-fp32's; on random weights
it says little of trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.engines.contender import KINDS, contenders_on
from benchmarks.engines.files import ModelFiles, read_json, write_json
from benchmarks.engines.machine import machine, versions
from benchmarks.engines.prepare import ROOT, Preparation, child_environment, prepare
from benchmarks.engines.rounds import Protocol, measure_model
from benchmarks.engines.summary import ratios, summarise
from benchmarks.engines.table import engines_table
from benchmarks.engines.towers import case_of, tiny_case
from reelsight.nouns.model import Model

RESULTS = ROOT / "benchmarks" / "results" / "engines-h200.json"
MODELS = ("vit-b-32", "vit-l-14", "resnet50")


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="bench-engines-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        run(options, work)


def parse() -> argparse.Namespace:
    """The command line, with what follows from the device filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="aliases or any name")
    parser.add_argument("--contenders", nargs="+", help="all that the device has, by default")
    parser.add_argument("--precisions", nargs="+", help="of our engines")
    parser.add_argument("--batches", nargs="+", type=int, help="for every model, ascending")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="a throughput takes at least")
    parser.add_argument("--latency-runs", type=int, default=300)
    parser.add_argument("--work", type=Path, help="where what was made is kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--prepare-only", action="store_true")
    parser.add_argument("--profile", action="store_true", help="kernels of our engines")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of two layers alone")
    parser.add_argument("--calibration", default="minmax", help="minmax, entropy or percentile")
    parser.add_argument("--calibration-frames", type=int, default=128)
    parser.add_argument("--frames", type=int, default=512, help="to compare embeddings on")
    parser.add_argument("--threads", type=int, help="of an engine on the host")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs", type=int, default=max(1, min(4, cores // 2)), help="in preparation"
    )
    options = parser.parse_args()
    cuda = options.device == "cuda"
    options.precisions = options.precisions or (["fp16", "int8", "fp8"] if cuda else ["fp32"])
    if options.contenders is None:
        options.contenders = list(contenders_on(options.device, tuple(options.precisions)))
    strange = [name for name in options.contenders if name.partition("-")[0] not in KINDS]
    if strange:
        parser.error(f"no contenders {strange}; their kinds are {', '.join(KINDS)}")
    options.threads = options.threads or (min(8, cores) if cuda else 1)
    options.batches = None if options.batches is None else tuple(sorted(set(options.batches)))
    return options


def run(options: argparse.Namespace, work: Path) -> None:
    """Prepare, then measure model by model; the results file is whole after each."""
    cases = (
        [tiny_case(work, options.batches)]
        if options.tiny
        else [case_of(name, options.batches) for name in options.models]
    )
    files = {case: ModelFiles(work / case.key) for case in cases}
    env = child_environment(work, options.device, options.jobs)
    how = Preparation(
        device=options.device,
        contenders=tuple(options.contenders),
        method=options.calibration,
        calibrated=options.calibration_frames,
        compared=options.frames,
        jobs=options.jobs,
    )
    print("prepare", flush=True)
    prepare(files, how, env)
    if options.prepare_only:
        return
    protocol = Protocol(
        device=options.device,
        rounds=options.rounds,
        seconds=options.seconds,
        latency_runs=options.latency_runs,
        threads=options.threads,
        profile=options.profile,
    )
    document = begin(options.results, how, protocol)
    for case in cases:
        print(case.key, flush=True)
        if not (files[case].root / "calibration.json").is_file():
            print(f"  not measured: {files[case].why_missing('export')}", flush=True)
            continue
        found = summarise(measure_model(case, options.contenders, files[case], protocol, env))
        model = Model.load(files[case].model)
        document["models"][case.key] = {
            "name": "a tiny ViT" if options.tiny else case.name,
            "weights": f"random weights, seed {case.seed}" if case.seed else "trained weights",
            "size": model.geometry.size,
            "dim": model.dim,
            "batches": case.batches,
            "contenders": found,
            "ratios": ratios(found),
        }
        write_json(options.results, document)
    print(document["protocol"], json.dumps(document["machine"]), sep="\n")
    print(engines_table(document))


def begin(results: Path, how: Preparation, protocol: Protocol) -> dict[str, Any]:
    """A results document, with the models that were measured before in the very same way."""
    settings = asdict(protocol) | {
        "calibration": how.method,
        "calibration_frames": how.calibrated,
        "frames": how.compared,
        "jobs": how.jobs,
    }
    document: dict[str, Any] = {
        "benchmark": results.stem,
        "protocol": " ".join(__doc__.split("Protocol: ")[1].split()),
        "machine": machine(protocol.device),
        "versions": versions(),
        "settings": settings,
    }
    before = read_json(results) if results.is_file() else {}
    same = all(before.get(name) == value for name, value in document.items())
    return document | {"models": before["models"] if same else {}}


if __name__ == "__main__":
    main()
