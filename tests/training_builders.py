"""A training so small that a step takes a few milliseconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from step_builders import LABELS, make_configuration

from autoseg.records import TrainSettings
from autoseg.training.cases import CaseInMemory
from autoseg.training.loop import Training
from autoseg.training.probe import StepTask, random_case
from autoseg.training.setup import TrainingSetup

CPU = torch.device("cpu")


def tiny_setup(
    *, held_out: bool = True, epochs: int = 4, steps_per_epoch: int = 5, **settings: object
) -> TrainingSetup:
    values = {"learning_rate": 1e-3, "weight_decay": 0.0, "optimizer": "sgd", "augmentation": "none", **settings}
    chosen = TrainSettings.model_validate({"epochs": epochs, **values})
    configuration = make_configuration(patch_size=(8, 8, 8), steps_per_epoch=steps_per_epoch)
    noise = random_case(StepTask(configuration, 1, LABELS, (0, 1, 2), chosen, "cpu"))
    cases = [CaseInMemory(replace(noise.prepared, case=f"case_{number}")) for number in range(3)]
    return TrainingSetup(
        configuration=configuration,
        channels=1,
        labels=LABELS,
        mirror_axes=(0, 1, 2),
        settings=chosen,
        train_cases=cases,
        validation_cases=cases[:1] if held_out else [],
        device=CPU,
        precision="float32",
    )


def tiny_training(folder: Path, **options: object) -> Training:
    return Training(tiny_setup(**options), folder / "state.safetensors", folder / "kept.safetensors")  # type: ignore[arg-type]
