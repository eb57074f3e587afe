"""The page that the engines' results make: a table a model, and where and how it was measured."""

from __future__ import annotations

from typing import Any

__all__ = ["engines_table"]

_NAMES = {
    "eager": "torch eager",
    "compile": "torch.compile",
    "transformers": "transformers",
    "ort": "ONNX Runtime",
    "engine": "**ours**",
}
# Characters of a failure's reason; the results file has all of it.
_REASON = 160
_HEAD = (
    "| contender | batch 1, p50 / p99 ms | best batch | images / s | pipelined from host memory "
    "| device memory, MiB | build, s | agreement with FP32, mean / p1 |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)


def engines_table(document: dict[str, Any]) -> str:
    """Markdown of a results file of the engines' benchmark."""
    parts = [_model(model) for model in document["models"].values()]
    return "\n\n".join([*parts, _where(document)])


def _model(model: dict[str, Any]) -> str:
    rows = [_row(name, row) for name, row in model["contenders"].items() if "failed" not in row]
    failed = [
        f"{_name(name)}: {' '.join(row['failed'].split())[:_REASON].rstrip('.')}"
        for name, row in model["contenders"].items()
        if "failed" in row
    ]
    lines = [
        f"{model['name']}, {model['size']} pixels, {model['weights']}; memory at batch "
        f"{model['batches'][-1]}:",
        "",
        *_HEAD,
        *rows,
        "",
        *(f"{line}\n" for line in _ratios(model)),
    ]
    if failed:
        lines.append(f"Not measured: {'; '.join(failed)}.\n")
    return "\n".join(lines).rstrip()


def _row(name: str, row: dict[str, Any]) -> str:
    latency, streamed, memory = row["latency_ms"], row["pipelined"], row["memory"]
    best, build, agreed = row["best"], row["build_s"], row.get("agreement")
    cells = [
        _name(name),
        f"{latency['p50']:.2f} / {latency['p99']:.2f}" if latency else "",
        str(best["batch"]),
        f"{best['images_per_s']:,.0f}",
        f"{streamed['images_per_s']:,.0f} ({streamed['share']:.0%})" if streamed else "",
        "" if memory["mib"] is None else f"{memory['mib']:,.0f}{_share(memory['share'])}",
        "" if build is None else f"{build:.0f}",
        f"{agreed['mean']:.4f} / {agreed['p1']:.4f}" if agreed else "",
    ]
    return f"| {' | '.join(cells)} |"


def _share(share: float | None) -> str:
    return "" if share is None else f" ({share:.0%})"


def _ratios(model: dict[str, Any]) -> list[str]:
    return [
        f"{_name(our)} over, images per second (batch-1 latency): "
        + ", ".join(
            f"{_name(name)} {r['images_per_s']:.2f}x"
            + ("" if r["p50"] is None else f" ({r['p50']:.2f}x)")
            for name, r in peers.items()
        )
        + "."
        for our, peers in model["ratios"].items()
        if peers
    ]


def _where(document: dict[str, Any]) -> str:
    machine, how = document["machine"], document["settings"]
    gpu = machine.get("gpu")
    device = (
        f"one {gpu['name']} (SM {gpu['sm']}, driver {gpu['driver']}, {gpu['power_limit_w']} W), "
        if gpu
        else ""
    )
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    return (
        f"Measured on {device}{machine['cpu']}, {machine['cores']} cores; medians of "
        f"{how['rounds']} rounds of {how['seconds']} s a batch and {how['latency_runs']} single "
        f"frames; with {stack}."
    )


def _name(name: str) -> str:
    kind, _, precision = name.partition("-")
    return f"{_NAMES[kind]} {precision.upper()}"
