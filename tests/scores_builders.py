"""Whole scores and counted passes, which no command needs: what tests compare masks and forecasts with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.inference.cascade import seen_images
from autoseg.inference.forecast import works
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.scores import score_slabs_of
from autoseg.records import BEST_PREDICTION, Geometry, PredictSettings, PreparedCase


def score_prepared(
    model: LoadedModel, prepared: Sequence[PreparedCase], *, settings: PredictSettings = BEST_PREDICTION
) -> tuple[NDArray[np.float32], ...]:
    """Whole scores (K, Z, Y, X) of what `prepare_volume` gave, per group of the model."""
    images = seen_images(model, prepared, settings=settings)
    return tuple(
        torch.cat(list(score_slabs_of(model, group, image, settings=settings)), dim=1).cpu().numpy()
        for group, image in zip(model.groups, images, strict=True)
    )


def expected_passes(model: LoadedModel, geometry: Geometry, settings: PredictSettings = BEST_PREDICTION) -> int:
    """Patches that go through a network for one case, all networks counted."""
    return sum(work.passes * len(work.group.networks) for work in works(model, geometry, settings))
