"""The fingerprint of a dataset as a model file keeps it: ranges over the cases, nothing of any one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from autoseg.arrays.quantiles import WIDTH, shape_of
from autoseg.records import CaseFingerprint, ChannelRange, Fingerprint, LabelRange, Spacing, TrainingData


def training_data(fingerprint: Fingerprint) -> TrainingData:
    """What a model that was trained on these cases must know of them to tell what is unlike them."""
    cases = fingerprint.cases
    spacings = [case.spacing for case in cases]
    extents = [extent_mm(case) for case in cases]
    return TrainingData(
        cases=len(cases),
        spacing_min=_each(min, spacings),
        spacing_max=_each(max, spacings),
        extent_min=_each(min, extents),
        extent_max=_each(max, extents),
        orientations=tuple(sorted({case.orientation for case in cases} - {"unknown"})),
        channels=_channels(cases),
        labels={name: _label(name, cases) for name in fingerprint.labels.foreground},
    )


def extent_mm(case: CaseFingerprint) -> Spacing:
    """Field of view in mm, axes as in the fingerprint."""
    z, y, x = (size * spacing for size, spacing in zip(case.shape, case.spacing, strict=True))
    return z, y, x


def _each(choose: Callable[[Iterable[float]], float], sizes: Sequence[Spacing]) -> Spacing:
    z, y, x = (choose(axis) for axis in zip(*sizes, strict=True))
    return z, y, x


def _channels(cases: Sequence[CaseFingerprint]) -> tuple[ChannelRange, ...]:
    """Ranges per channel; nothing where a case was measured by a version that did not look at quantiles."""
    if not all(case.quantiles and all(case.quantiles) for case in cases):
        return ()
    return tuple(_channel([case.quantiles[channel] for case in cases]) for channel in range(len(cases[0].quantiles)))


def _channel(quantiles: Sequence[tuple[float, ...]]) -> ChannelRange:
    shapes = [shape for found in quantiles if (shape := shape_of(found))]
    return ChannelRange(
        low=tuple(min(values) for values in zip(*quantiles, strict=True)),
        high=tuple(max(values) for values in zip(*quantiles, strict=True)),
        shape_low=tuple(min(values) for values in zip(*shapes, strict=True)),
        shape_high=tuple(max(values) for values in zip(*shapes, strict=True)),
        width=float(np.median([found[WIDTH[1]] - found[WIDTH[0]] for found in quantiles])),
    )


def _label(name: str, cases: Sequence[CaseFingerprint]) -> LabelRange:
    drawn = [case for case in cases if case.annotated is None or name in case.annotated]
    volumes = [case.voxels_per_label[name] * case.voxel_ml for case in drawn if case.voxels_per_label.get(name)]
    if not volumes:
        return LabelRange(cases=0, drawn=len(drawn), volume_ml=(0.0, 0.0, 0.0))
    return LabelRange(
        cases=len(volumes), drawn=len(drawn), volume_ml=(min(volumes), float(np.median(volumes)), max(volumes))
    )
