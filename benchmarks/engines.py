"""Seconds of one pass through a network by each engine: torch in float32 and bfloat16, ONNX Runtime, OpenVINO.

    python benchmarks/engines.py [--repeats 8] [--batch 2] [--large]

The networks are nnU-Net's for Hippocampus (40x56x40, 32 to 256 features, four levels), the same with a residual
encoder, and a 2D one (256x256); with --large also one of 128x128x128 with six levels. All see random numbers and hold
random weights. Every engine has all cores, rounds of all engines follow one another, and the least wall time and
processor time of each count, since the machine may have other work. The difference is the largest of the scores, from
those of torch in float32, as a share of their deviation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.devices import PRECISIONS, autocast
from autoseg.inference.engines import ENGINES, engine_version
from autoseg.machine import available_cores
from autoseg.networks.catalog import build_network
from autoseg.networks.onnx_graph import network_graph
from autoseg.records import NetworkSpec

CPU = torch.device("cpu")
HEADS = 3


@dataclass(frozen=True)
class Trial:
    name: str
    network: str
    dimensions: Literal[2, 3]
    patch: tuple[int, ...]
    features: tuple[int, ...]


TRIALS = (
    Trial("Hippocampus", "unet", 3, (40, 56, 40), (32, 64, 128, 256)),
    Trial("residual encoder", "resenc", 3, (40, 56, 40), (32, 64, 128, 256)),
    Trial("2D", "unet", 2, (256, 256), (32, 64, 128, 256, 512)),
)
LARGE = Trial("128^3", "unet", 3, (128, 128, 128), (32, 64, 128, 256, 320, 320))


def built(trial: Trial) -> nn.Module:
    torch.manual_seed(0)
    levels, d = len(trial.features), trial.dimensions
    spec = NetworkSpec(
        network=trial.network,
        dimensions=d,
        channels=1,
        heads=HEADS,
        strides=((1,) * d, *((2,) * d,) * (levels - 1)),
        kernel_sizes=((3,) * d,) * levels,
        features_per_stage=trial.features,
        blocks_per_stage=(2,) * levels,
        blocks_per_stage_decoder=(2,) * (levels - 1),
        deep_supervision=False,
    )
    return build_network(spec).eval().requires_grad_(False)


def ways(network: nn.Module, trial: Trial) -> dict[str, Callable[[Tensor], np.ndarray]]:
    """Per engine and precision what gives the scores of a batch."""
    found: dict[str, Callable[[Tensor], np.ndarray]] = {}

    def by_torch(precision: str) -> Callable[[Tensor], np.ndarray]:
        def run(batch: Tensor) -> np.ndarray:
            with torch.inference_mode(), autocast(CPU, precision):  # type: ignore[arg-type]
                return network(batch).to(torch.float32).numpy()

        return run

    for precision in PRECISIONS:
        if precision != "float16":
            found[f"torch, {precision}"] = by_torch(precision)
    graph = network_graph(network, 1, trial.patch)
    for engine in ENGINES.values():
        for precision in engine.precisions:
            if precision != "float16":
                run = engine.start(graph, available_cores(), precision)
                found[f"{engine.name}, {precision}"] = lambda batch, run=run: run(batch.numpy())  # type: ignore[misc]
    return found


def measure(trial: Trial, batch_size: int, repeats: int) -> None:
    network = built(trial)
    batch = torch.randn(batch_size, 1, *trial.patch, generator=torch.Generator().manual_seed(0))
    engines = ways(network, trial)
    expected = engines["torch, float32"](batch)
    difference = {name: float(np.abs(run(batch) - expected).max() / expected.std()) for name, run in engines.items()}
    wall: dict[str, list[float]] = {name: [] for name in engines}
    processor: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, run in engines.items():
            began, used = time.perf_counter(), time.process_time()
            run(batch)
            wall[name].append((time.perf_counter() - began) / batch_size)
            processor[name].append((time.process_time() - used) / batch_size)
    print(f"{trial.name}, {'x'.join(map(str, trial.patch))}, batch {batch_size}; seconds for one patch")
    for name in engines:
        print(
            f"  {name:22s} wall {min(wall[name]):7.3f}   processor {min(processor[name]):7.3f}   "
            f"difference {difference[name]:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(available_cores())
    print(", ".join(engine_version(name) for name in ("torch", *ENGINES)), f"on {available_cores()} cores")
    for trial in TRIALS:
        measure(trial, options.batch, options.repeats)
    if options.large:
        measure(LARGE, 1, max(3, options.repeats // 2))


if __name__ == "__main__":
    main()
