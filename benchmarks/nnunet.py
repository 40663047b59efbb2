"""nnU-Net beside autoseg: its folders, its commands, and a trainer of a given length."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

#: A trainer of a given length that notes when each step ends; nnU-Net finds it through `nnUNet_extTrainer`.
TRAINER = """
import json
import time
from pathlib import Path
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class {name}(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = {epochs}
        self.num_iterations_per_epoch = {iterations}
        self.num_val_iterations_per_epoch = {validation_iterations}
        self.ends = []

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.ends.append([time.time()])

    def train_step(self, batch):
        result = super().train_step(batch)
        self.ends[-1].append(time.time())
        return result

    def perform_actual_validation(self, save_probabilities=False):
        began = time.time()
        {validate}
        told = {{"steps": self.ends, "validation_began": began, "validation_ended": time.time()}}
        Path(self.output_folder, "times.json").write_text(json.dumps(told))
"""


@dataclass(frozen=True)
class NnUNet:
    """An environment in which nnU-Net is installed, and a folder for all that it writes."""

    environment: Path
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """nnU-Net's environment variables; one process augments, since two cores have no room for more."""
        places = {f"nnUNet_{name}": str(self.folder / name) for name in ("raw", "preprocessed", "results")}
        return {**os.environ, **places, "nnUNet_n_proc_DA": "1", "nnUNet_extTrainer": str(self.folder / "trainers")}

    def run(self, program: str, *words: str, log: Path | None = None) -> float:
        """Seconds of one of nnU-Net's commands; raises where it fails."""
        began = time.monotonic()
        target = (log or self.folder / "log.txt").open("w")
        command = [str(self.environment / "bin" / program), *words]
        subprocess.run(command, check=True, stdout=target, stderr=subprocess.STDOUT, env=self.variables)
        return time.monotonic() - began

    def take(self, dataset: Path) -> str:
        """Make a Decathlon folder or one in nnU-Net's layout known to it; the dataset's number."""
        for name in ("raw", "preprocessed", "results", "trainers"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        raw = self.folder / "raw"
        if dataset.name.startswith("Task"):
            number = dataset.name[4:6].zfill(3)
            if not list(raw.glob(f"Dataset{number}_*")):
                copy = self.folder / dataset.name
                shutil.copytree(dataset, copy)
                self.run("nnUNetv2_convert_MSD_dataset", "-i", str(copy), "-np", "2")
            return number
        if not (raw / dataset.name).exists():
            (raw / dataset.name).symlink_to(dataset.resolve(), target_is_directory=True)
        return dataset.name[len("Dataset") :][:3]

    def prepared(self, number: str) -> Path:
        """The folder of preprocessed cases."""
        (found,) = (self.folder / "preprocessed").glob(f"Dataset{number}_*")
        return found

    def change_plan(self, number: str, configuration: str, **values: object) -> None:
        """Change values of a configuration in the plans file."""
        path = self.prepared(number) / "nnUNetPlans.json"
        plans = json.loads(path.read_text())
        plans["configurations"][configuration].update(values)
        path.write_text(json.dumps(plans, indent=1))

    def write_trainer(
        self, name: str, epochs: int, iterations: int, *, validation: int, validate: bool = True, mirror: bool = True
    ) -> None:
        """A trainer class of so many epochs; `validation` are its online validation steps an epoch.

        Without `mirror` the final validation predicts no mirrored copies; training mirrors all the same.
        """
        call = "super().perform_actual_validation(save_probabilities)" if validate else "pass"
        if not mirror:
            call = f"self.inference_allowed_mirroring_axes = None; {call}"
        text = TRAINER.format(
            name=name, epochs=epochs, iterations=iterations, validation_iterations=validation, validate=call
        )
        (self.folder / "trainers" / f"{name}.py").write_text(text)

    def results(self, number: str, trainer: str, configuration: str, fold: str) -> Path:
        """Where a training's results lie."""
        (dataset,) = (self.folder / "results").glob(f"Dataset{number}_*")
        return dataset / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"


def step_seconds(times: Mapping[str, list[list[float]]], skip_epochs: int = 0) -> list[float]:
    """Seconds from the end of one step to the end of the next, data and all included, from a trainer's times.json."""
    return [later - earlier for ends in times["steps"][skip_epochs:] for earlier, later in pairwise(ends[1:])]
