"""The receipt of a training: a part that goes into its model file, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch

from autoseg import devices
from autoseg.files import file_hash
from autoseg.pipeline.job import Job
from autoseg.pipeline.plans import plan_digest
from autoseg.pipeline.receipts import DIGITS, fold_hash, plain, prepared_hash, read_receipt, short_hash, versions
from autoseg.records import Fold, Receipt
from autoseg.training.loop import Training


def run_receipt(job: Job, training: Training, split: Fold) -> Receipt:
    """What a run is made with, as its model file tells it: nothing of when and how fast.

    `split` are the cases that it trains and is scored with.
    """
    setup = training.setup
    return Receipt(
        stage="train",
        versions=versions(),
        seed=setup.settings.seed,
        device=devices.describe(setup.device),
        precision=setup.precision,
        threads=torch.get_num_threads(),
        processes=setup.ranks.place.world,
        options={
            "configuration": job.configuration.name,
            "fold": job.run.fold,
            "device": job.device,
            "precision": job.precision,
            "settings": plain(setup.settings),
            "samples_at_a_time": setup.samples_at_a_time or setup.largest_share,
            "acceleration": asdict(setup.acceleration),
        },
        inputs=_inputs(job, split),
    )


def _inputs(job: Job, split: Fold) -> dict[str, str]:
    folder = job.work.prepared_folder(job.configuration.preparation)
    found = {
        "plan": plan_digest(job.plan),
        "folds": fold_hash(split),
        "prepared cases": prepared_hash(folder, (*split.train, *split.val)),
    }
    prepared = read_receipt(job.work.prepared_receipt(job.configuration.preparation))
    if prepared is not None and "data" in prepared.inputs:
        found["data"] = prepared.inputs["data"]
    if job.configuration.previous_stage is not None:
        first = job.work.run(job.run.plan, job.configuration.previous_stage, job.run.fold)
        found["first stage"] = short_hash(first.model)
    if job.settings.initial is not None:
        found["initial model"] = job.settings.initial
    return found


def finished_receipt(receipt: Receipt, training: Training, seconds: Mapping[str, float], job: Job) -> Receipt:
    """The receipt of a run that has ended: also its model's hash, how long each stage took, and how it went."""
    state = training.state
    return receipt.model_copy(
        update={
            "results": {"model": file_hash(job.run.model, DIGITS)},
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "course": {
                "epochs": state.epoch,
                "steps": state.step,
                "training_seconds": round(state.seconds, 3),
                "ended_early": training.ended_early,
                "skipped_steps": state.skipped_steps,
                "rollbacks": state.rollbacks,
                "scored_with_mirroring": state.score_with_mirroring,
            },
        }
    )
