"""The batches of a training: cropped, on the device, augmented, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autoseg import devices
from autoseg.devices import sent
from autoseg.errors import is_out_of_memory
from autoseg.networks.second_stage import with_one_hot
from autoseg.training.augmentation import find_augmentation, initial_patch_size
from autoseg.training.intensity import drop_channels
from autoseg.training.patches import Batch, Sampling, TrainingCase, make_batch
from autoseg.training.setup import TrainingSetup, partly_drawn
from autoseg.training.stream import BatchStream


class Batches:
    """Makes this process's share of the batches of a training."""

    def __init__(self, setup: TrainingSetup) -> None:
        """Nothing is made yet."""
        self._setup = setup
        self._augmentation = find_augmentation(setup.settings.augmentation)
        self._aside: torch.cuda.Stream | None = None  # where batches are augmented ahead of their steps
        self.sampling = setup.sampling(initial_patch_size(setup.configuration.patch_size, self._augmentation))
        self.places = setup.ranks.place.share(setup.configuration.batch_size)  # of the batch, that are made here
        self.partly_drawn = partly_drawn(setup.labels, setup.annotated)  # case -> which outputs are known there

    def stream(self, first_step: int) -> BatchStream:
        """The batches of the steps from this one on.

        A GPU augments them ahead, beside the steps: handing over the many small pieces of work takes longer than
        themselves. On a CPU each step augments its own batch: nothing would be gained from cores that compute already.
        """
        cases, device = self._setup.train_cases, self._setup.device
        if device.type != "cuda":
            return BatchStream(cases, self.sampling, first_step, self.places)
        # before the steps: their pieces of work are long, those of augmentation short and waited for one by one
        self._aside = torch.cuda.Stream(device, priority=-1)
        self._aside.wait_stream(torch.cuda.current_stream(device))  # the cases are there
        return BatchStream(cases, self.sampling, first_step, self.places, make=self._augmented_ahead)

    def _augmented_ahead(
        self, cases: Sequence[TrainingCase], sampling: Sampling, step: int, places: Sequence[int] | None
    ) -> Batch:
        with torch.cuda.device(self._setup.device), torch.cuda.stream(self._aside):
            batch = make_batch(cases, sampling, step, places)
            try:
                images, labels = self.augmented(batch)
                batch = replace(batch, images=images, labels=labels, augmented=True)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            if not batch.augmented:  # beside a step there was no room for it: the step does it, from a fresh start
                devices.release_memory(self._setup.device)
                batch = make_batch(cases, sampling, step, places)
            return replace(batch, ready=torch.cuda.current_stream().record_event())

    def taken(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augmented images and labels of a batch, there for what is computed next.

        They may be of another stream's memory: whoever computes with them waits for the device before they go.
        """
        if batch.ready is not None:
            torch.cuda.current_stream(self._setup.device).wait_event(batch.ready)
        if batch.augmented:
            return torch.as_tensor(batch.images), torch.as_tensor(batch.labels)
        return self.augmented(batch)

    def augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, *patch) and labels (B, *patch) on the device, varied as the settings say."""
        setup = self._setup
        images, labels = self._augmentation.apply(
            sent(batch.images, setup.device),
            sent(batch.labels, setup.device),
            batch.generators,
            setup.configuration.patch_size,
            setup.patch_mirror_axes,
            setup.masked_channels,
            setup.first_stage_labels,
        )
        drop_channels(images, batch.generators, setup.settings.channel_dropout, setup.image_channels)
        return self.seen(images), labels

    def seen(self, images: Tensor) -> Tensor:
        """What the network sees of images: as they are, and a first stage's label map as one map per label."""
        first = self._setup.first_stage_labels
        return with_one_hot(images, first) if first else images

    def drawn(self, batch: Batch) -> Tensor | None:
        """Which outputs are known in each sample, (B, K); None where all are in all."""
        if not any(case in self.partly_drawn for case in batch.cases):
            return None
        whole = (True,) * self._setup.labels.heads
        rows = [self.partly_drawn.get(case, whole) for case in batch.cases]
        return torch.tensor(rows, dtype=torch.bool, device=self._setup.device)
