"""Trainings whose steps are made by two processes, and by one, to be compared."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from step_builders import make_configuration
from torch import distributed as dist
from torch import multiprocessing

from autoseg.records import Labels, TrainSettings
from autoseg.torchrun import Place
from autoseg.training.cases import CaseInMemory
from autoseg.training.learner import Learner
from autoseg.training.patches import make_batch
from autoseg.training.probe import StepTask, random_case
from autoseg.training.ranks import ALONE, Ranks, connect
from autoseg.training.setup import TrainingSetup

CPU = torch.device("cpu")

PLAIN = Labels(names={"background": 0, "left": 1, "right": 2})
IGNORING = Labels(names={"background": 0, "left": 1, "right": 2}, ignore=3)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
IGNORING_REGIONS = REGIONS.model_copy(update={"ignore": 3})


@dataclass(frozen=True)
class Scenario:
    """A training of a few steps."""

    labels: Labels = PLAIN
    batch_dice: bool = False
    batch_size: int = 2
    partly_annotated: bool = False
    samples_at_a_time: int | None = None
    loss: str = "dice_ce"
    augmentation: str = "nnunet"
    residual: bool = False
    spoiled: bool = False  # the loss of the first step is not finite


SCENARIOS: dict[str, Scenario] = {
    "per sample": Scenario(),
    "batch Dice": Scenario(batch_dice=True),
    "residual network, not augmented": Scenario(residual=True, augmentation="none"),
    "ignore label": Scenario(IGNORING),
    "ignore label, batch Dice": Scenario(IGNORING, batch_dice=True),
    "regions": Scenario(REGIONS),
    "regions with ignore label, batch Dice": Scenario(IGNORING_REGIONS, batch_dice=True),
    "partly annotated": Scenario(batch_size=4, partly_annotated=True),
    "partly annotated, batch Dice": Scenario(batch_size=4, partly_annotated=True, batch_dice=True),
    "partly annotated regions": Scenario(REGIONS, batch_size=4, partly_annotated=True),
    "uneven shares": Scenario(batch_size=3),
    "uneven shares, batch Dice": Scenario(IGNORING, batch_size=3, batch_dice=True),
    "a step that is not finite": Scenario(spoiled=True),
    "cross-entropy alone": Scenario(IGNORING, loss="ce"),
    "in parts": Scenario(IGNORING, batch_size=4, samples_at_a_time=1),
    "in uneven parts": Scenario(batch_size=5, samples_at_a_time=2, partly_annotated=True),
    "in parts, batch Dice": Scenario(IGNORING, batch_size=3, samples_at_a_time=1, batch_dice=True),
}

STEPS = 2


def scenario_setup(scenario: Scenario, ranks: Ranks = ALONE, samples_at_a_time: int | None = None) -> TrainingSetup:
    settings = TrainSettings(
        epochs=1,
        learning_rate=1e-2,
        weight_decay=0.0,
        optimizer="sgd",
        augmentation=scenario.augmentation,
        loss=scenario.loss,
        gradient_clip=1e6,  # would hide a gradient that is too large everywhere
    )
    configuration = make_configuration(
        network="resenc" if scenario.residual else "unet",
        patch_size=(8, 8, 8),
        batch_size=scenario.batch_size,
        batch_dice=scenario.batch_dice,
        # three stages: the head of the coarsest scores has no gradient
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3),) * 3,
        features_per_stage=(4, 8, 8),
        blocks_per_stage=(1, 1, 1),
        blocks_per_stage_decoder=(1, 1),
    )
    task = StepTask(configuration, 1, scenario.labels, (0, 1, 2), settings, "cpu")
    return TrainingSetup(
        configuration=configuration,
        channels=1,
        labels=scenario.labels,
        mirror_axes=(0, 1, 2),
        settings=settings,
        train_cases=[differing_case(task, number) for number in range(3)],
        validation_cases=[],
        device=CPU,
        precision="float32",
        annotated={"case_1": tuple(scenario.labels.foreground)[:1]} if scenario.partly_annotated else {},
        ranks=ranks,
        samples_at_a_time=samples_at_a_time,
    )


def differing_case(task: StepTask, number: int) -> CaseInMemory:
    """Noise in which labels are unlike those of another case: means over processes would not be those over samples."""
    prepared = random_case(task).prepared
    generator = np.random.default_rng(number)
    shares = np.array([0.7, 0.2, 0.1, 0.0]) if number else np.array([0.1, 0.1, 0.3, 0.5])
    values = len(task.labels.values)
    labels = generator.choice(values, prepared.image.shape[1:], p=shares[:values] / shares[:values].sum())
    image = prepared.image + labels[None] * (1 + number)
    return CaseInMemory(
        replace(prepared, case=f"case_{number}", image=image.astype(np.float32), labels=labels.astype(np.int16))
    )


def trained(setup: TrainingSetup, spoiled: bool = False) -> dict[str, torch.Tensor]:
    """Losses, gradients of the last step, and weights after it; what the samples were."""
    learner = Learner(setup)
    backward = learner._backward
    found: dict[str, torch.Tensor] = {}
    losses = []
    for step in range(STEPS):
        batch = make_batch(setup.train_cases, learner.batches.sampling, step, learner.batches.places)
        for place, image in zip(learner.batches.places, torch.as_tensor(batch.images), strict=True):
            found[f"sample/{step}/{place}"] = image.clone()
        images, _ = learner.batches.augmented(batch)
        for place, image in zip(learner.batches.places, images, strict=True):
            found[f"augmented/{step}/{place}"] = image.clone()
        batch = make_batch(setup.train_cases, learner.batches.sampling, step, learner.batches.places)
        bad = replace(backward.loss, value=lambda totals: backward.loss.value(totals) * float("inf"))
        learner._backward = replace(backward, loss=bad) if spoiled and step == 0 else backward
        loss = learner.step(batch, step, 1e-2)
        losses.append(float("nan") if loss is None else loss)
    found["losses"] = torch.tensor(losses, dtype=torch.float64)
    for name, parameter in learner.network.named_parameters():
        found[f"weight/{name}"] = parameter.detach().clone()
        if parameter.grad is not None:
            found[f"gradient/{name}"] = parameter.grad.clone()
    return found


def in_two_processes(folder: Path, work: Callable[[Ranks, Path], None]) -> None:
    """Run a function of a module in two connected processes on this machine.

    Raises AssertionError with all that both wrote to stderr, their tracebacks and those of faulthandler among it, where
    one does not end well.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    try:
        multiprocessing.start_processes(_connected, (store.port, folder, work), 2, start_method="spawn")
    except (multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException) as error:
        said = [f"{path.name}:\n{path.read_text(errors='replace')}" for path in sorted(folder.glob("stderr-*.txt"))]
        raise AssertionError("\n".join([str(error), *said])) from error


def _connected(rank: int, port: int, folder: Path, work: Callable[[Ranks, Path], None]) -> None:
    with open(folder / f"stderr-{rank}.txt", "w") as file:
        os.dup2(file.fileno(), 2)  # what libraries in C++ write before they abort comes here as well
    faulthandler.enable()
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    ranks = connect(Place(rank, 2, rank, 2), store, CPU)
    work(ranks, folder)
    # Whoever leaves closes gloo's connections, which the other may still be reading from. They wait for one another
    # through the store, so that the waiting itself needs none of these connections.
    store.set(f"done/{rank}", "")
    store.wait([f"done/{other}" for other in range(2)])
    dist.destroy_process_group()


def train_all(ranks: Ranks, folder: Path) -> None:
    for number, scenario in enumerate(SCENARIOS.values()):
        found = trained(scenario_setup(scenario, ranks, scenario.samples_at_a_time), scenario.spoiled)
        save_file(found, folder / f"{number}-{ranks.place.rank}.safetensors")


def results(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    return [load_file(folder / f"{list(SCENARIOS).index(name)}-{rank}.safetensors") for rank in range(2)]
