"""Patches per second of training on a GPU, by each way to compute, and how far that is from what the card can do.

    python benchmarks/gpu_step.py [--patch 128 128 128] [--batch 2] [--preset nnunet] [--device cuda] [--steps 40]

Nothing is read: cases are noise, the plan is the preset's for images half as large again as the patch. All that a step
needs counts (cropping, augmentation, network, loss, optimizer); the device is waited for before and after all steps,
not after each. Memory is what the allocator holds at most, beside the planner's estimate. The rate is the arithmetic of
the network's convolutions over the seconds, as a share of what a large matrix product reaches on the card in the same
precision. `tuned` lets cuDNN try its algorithms for each shape.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from autoseg import devices
from autoseg.networks.acceleration import ACCELERATIONS
from autoseg.planning.overrides import Overrides
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.records import CaseFingerprint, Configuration, Fingerprint, IntensityStatistics, Labels, Plan
from autoseg.training.cases import hold_on_device
from autoseg.training.loop import Training
from autoseg.training.memory import memory_growth
from autoseg.training.probe import StepTask, random_case
from autoseg.training.setup import TrainingSetup

LABELS = Labels(names={"background": 0, "organ": 1, "tumor": 2})
CASES = 4

#: Steps before the clock starts: algorithms are chosen, networks compiled, memory is full.
WARM_UP = 6

#: What `--tuned` stands for.
TUNED = {"no": (False,), "yes": (True,), "both": (False, True)}

#: Edge of the matrices whose product is the card's rate, and how many of them.
EDGE, PRODUCTS = 8192, 10


def planned(preset: str, patch: tuple[int, int, int], batch: int) -> tuple[Plan, Configuration]:
    """A plan for images half as large again as the patch."""
    z, y, x = (size * 3 // 2 for size in patch)
    case = CaseFingerprint(
        case="noise",
        shape=(z, y, x),
        spacing=(1.0, 1.0, 1.0),
        shape_after_crop=(z, y, x),
        orientation="RAS",
        voxels_per_label={},
    )
    numbers = IntensityStatistics(mean=0, median=0, std=1, min=-4, max=4, percentile_00_5=-3, percentile_99_5=3)
    measured = Fingerprint(
        dataset="noise",
        channels=("MR",),
        labels=LABELS,
        cases=(case,) * 20,
        intensities=(numbers,),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=len(LABELS.names),
        cases_declared=20,
    )
    asked = Overrides(patch_size_3d=patch, batch_size=batch)
    plan = make_plan(measured, preset, DeviceBudget("cuda", 8, 24), overrides=asked)
    return plan, plan.configurations["3d_fullres"]


def matrix_rate(device: torch.device, precision: devices.Precision) -> float:
    """Operations per second of a product of large matrices of random numbers."""
    edge = EDGE if device.type == "cuda" else EDGE // 8
    one, other = (torch.randn(edge, edge, device=device).to(devices.PRECISIONS[precision]) for _ in range(2))
    for _ in range(3):
        one @ other
    devices.synchronize(device)
    began = time.perf_counter()
    for _ in range(PRODUCTS):
        one @ other
    devices.synchronize(device)
    return PRODUCTS * 2 * edge**3 / (time.perf_counter() - began)


class _Enough(Exception):
    """The steps that were wanted are made."""


def measured_steps(task: StepTask, steps: int) -> tuple[float, float, int]:
    """Seconds of a step, the share of waiting for data, and the bytes that were taken at most."""
    device = devices.choose_device(task.device)
    larger = task.configuration.model_copy(
        update={"patch_size": tuple(size * 5 // 4 for size in task.configuration.patch_size)}
    )
    case = random_case(replace(task, configuration=larger))
    cases = hold_on_device(
        [replace(case, prepared=replace(case.prepared, case=f"noise {number}")) for number in range(CASES)],
        device,
        1 << 33,
    )
    setup = TrainingSetup(
        configuration=task.configuration.model_copy(update={"steps_per_epoch": 1_000_000}),
        channels=task.channels,
        labels=task.labels,
        mirror_axes=task.mirror_axes,
        settings=task.settings.model_copy(update={"budget_seconds": None}),
        train_cases=cases,
        validation_cases=[],
        device=device,
        precision=task.precision,
        acceleration=ACCELERATIONS[task.acceleration],
    )
    with memory_growth(device) as growth, tempfile.TemporaryDirectory() as folder:
        training = Training(setup, Path(folder) / "state.safetensors")
        training.say = print
        marks: list[tuple[float, float]] = []

        def after_each_step() -> bool:
            if training.state.step in (WARM_UP, WARM_UP + steps):
                devices.synchronize(device)
                marks.append((time.perf_counter(), training.state.wait_seconds))
            if len(marks) == 2:
                raise _Enough
            return False

        with suppress(_Enough):
            for _ in training.epochs(after_each_step):
                pass
        peak = growth()
    (began, waited_before), (ended, waited) = marks
    return (ended - began) / steps, (waited - waited_before) / (ended - began), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", nargs=3, type=int, default=(128, 128, 128))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--preset", default="nnunet")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--ways", nargs="*", default=list(ACCELERATIONS), choices=list(ACCELERATIONS))
    parser.add_argument("--tuned", choices=("no", "yes", "both"), default="both", help="cuDNN's own trials")
    options = parser.parse_args()
    device = devices.choose_device(options.device)
    plan, entry = planned(options.preset, tuple(options.patch), options.batch)
    task = StepTask(entry, 1, LABELS, plan.mirror_axes, plan.training, options.device)
    rate = matrix_rate(device, task.precision)
    print(f"{devices.describe(device)}, torch {torch.__version__}; a matrix product: {rate / 1e12:.3g} TFLOP/s")
    patch, features = ("x".join(map(str, values)) for values in (entry.patch_size, entry.features_per_stage))
    print(f"{task.precision}, patch {patch}, batch {entry.batch_size}, features {features}")
    print(f"arithmetic of a step: {task.operations / 1e12:.3g} TFLOP\n")
    print("| way | tuned | s a step | patches/s | data wait | TFLOP/s | of the rate | GB, estimated |")
    print("|---|---|---|---|---|---|---|---|")
    for way, tuned in itertools.product(options.ways, TUNED[options.tuned if device.type == "cuda" else "no"]):
        torch.backends.cudnn.benchmark = tuned
        try:
            seconds, waiting, peak = measured_steps(replace(task, acceleration=way), options.steps)
        except Exception as error:
            print(
                f"| {way} | {tuned} | failed: {type(error).__name__}: {str(error).splitlines()[0][:100]} |", flush=True
            )
            continue
        finally:
            devices.release_memory(device)
        done = task.operations / seconds
        cells = (
            *(way, "yes" if tuned else "no", f"{seconds:.4f}", f"{entry.batch_size / seconds:.1f}", f"{waiting:.1%}"),
            *(f"{done / 1e12:.2f}", f"{done / rate:.1%}", f"{peak / 1e9:.2f}, {task.estimated_bytes / 1e9:.2f}"),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
