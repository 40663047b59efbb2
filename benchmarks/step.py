"""Seconds of one training step and one forward pass on this machine, by network size and patch.

python benchmarks/step.py
"""

from __future__ import annotations

import statistics
import time

import torch

from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.records import Labels, NetworkSpec
from autoseg.training.losses import LOSSES, deep_supervision_totals, deep_supervision_value, of_totals

LABELS = Labels(names={"background": 0, "a": 1, "b": 2})


def measure(
    features: tuple[int, ...], patch: tuple[int, int, int], batch: int, repeats: int = 7
) -> tuple[float, float]:
    stages = len(features)
    spec = NetworkSpec(
        network="unet",
        dimensions=3,
        channels=1,
        heads=LABELS.heads,
        strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
        kernel_sizes=((3, 3, 3),) * stages,
        features_per_stage=features,
        blocks_per_stage=(2,) * stages,
        blocks_per_stage_decoder=(2,) * (stages - 1),
    )
    network = prepare_for_device(build_network(spec), torch.device("cpu"))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    loss = of_totals(LOSSES["dice_ce"](LABELS, False))
    images, labels = torch.randn(batch, 1, *patch), torch.randint(0, 3, (batch, *patch))
    steps, passes = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        optimizer.zero_grad()
        deep_supervision_value(deep_supervision_totals(network(images), labels, loss), loss).backward()
        optimizer.step()
        steps.append(time.perf_counter() - began)
    network.deep_supervision = False
    with torch.inference_mode():
        for _ in range(repeats):
            began = time.perf_counter()
            network(images)
            passes.append((time.perf_counter() - began) / batch)
    return statistics.median(steps), statistics.median(passes)


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print("features        patch        batch   s/step   s/pass and patch")
    for features in ((16, 32, 64, 128), (32, 64, 128, 256)):
        for patch in ((40, 56, 40), (32, 40, 32)):
            step, forward = measure(features, patch, 2)
            edges = "x".join(map(str, patch))
            print(f"{features[0]:3d} to {features[-1]:3d}   {edges:>12s} {2:6d} {step:9.3f} {forward:9.3f}")


if __name__ == "__main__":
    main()
