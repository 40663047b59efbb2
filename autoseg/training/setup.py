"""All that a training needs, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from autoseg.devices import Precision
from autoseg.networks.acceleration import EAGER, Acceleration
from autoseg.records import Configuration, Labels, Shape, TrainSettings
from autoseg.training.focus import make_focus
from autoseg.training.initial import InitialWeights
from autoseg.training.patches import Sampling, TrainingCase
from autoseg.training.ranks import ALONE, Ranks


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """All that a training needs; the same setup gives the same training."""

    configuration: Configuration
    channels: int  # that the network reads
    labels: Labels
    mirror_axes: tuple[int, ...]
    settings: TrainSettings
    train_cases: Sequence[TrainingCase]
    validation_cases: Sequence[TrainingCase]
    device: torch.device
    precision: Precision
    annotated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # case -> labels drawn, where not all were
    initial: InitialWeights | None = None  # of another model, to begin with
    ranks: Ranks = ALONE  # the processes that train together
    samples_at_a_time: int | None = None  # of a process's share of the batch, for the memory's sake; None is all
    acceleration: Acceleration = EAGER

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, where epochs decide."""
        return self.settings.epochs * self.configuration.steps_per_epoch

    @property
    def largest_share(self) -> int:
        """Samples of a batch that fall to one process at most."""
        return -(-self.configuration.batch_size // self.ranks.place.world)

    @property
    def patch_mirror_axes(self) -> tuple[int, ...]:
        """Mirror axes counted within the patch: 2D patches have no Z."""
        if self.configuration.dimensions == 3:
            return self.mirror_axes
        return tuple(axis - 1 for axis in self.mirror_axes if axis > 0)

    @property
    def patch_size(self) -> Shape:
        """Patch as (Z, Y, X), Z = 1 for 2D."""
        return _with_z(self.configuration.patch_size)

    @property
    def image_channels(self) -> int:
        """Channels of the images; what a first stage gives comes after them."""
        return len(self.configuration.preparation.normalization)

    @property
    def first_stage_labels(self) -> int:
        """The largest label of a cascade's first stage, whose map is the last channel of the cases; 0 without one."""
        return 0 if self.configuration.previous_stage is None else len(self.labels.values) - 1

    @property
    def masked_channels(self) -> tuple[int, ...]:
        """Channels that are 0 outside of the foreground, as they were normalized by a mask."""
        masked = self.configuration.preparation.use_mask_for_normalization
        return tuple(channel for channel, use in enumerate(masked) if use)

    def sampling(self, initial: tuple[int, ...]) -> Sampling:
        """How patches are drawn that are cropped with the size `initial`."""
        sampling = Sampling(
            patch_size=self.patch_size,
            initial_size=_with_z(initial),
            batch_size=self.configuration.batch_size,
            foreground_share=self.settings.foreground_share,
            has_ignore=self.labels.ignore is not None,
            seed=self.settings.seed,
        )
        return replace(sampling, focus=make_focus(self.settings.sampling, self.train_cases, sampling, self.labels))


def _with_z(size: Sequence[int]) -> Shape:
    return (1, size[0], size[1]) if len(size) == 2 else (size[0], size[1], size[2])


def partly_drawn(labels: Labels, annotated: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[bool, ...]]:
    """For each case in which not all outputs are known, which are."""
    drawn = {case: labels.drawn_outputs(names) for case, names in annotated.items()}
    return {case: outputs for case, outputs in drawn.items() if not all(outputs)}
