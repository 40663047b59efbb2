"""The measurements of all cases as the fingerprint of their dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.errors import DatasetError
from autoseg.fingerprint.case import CaseMeasurement
from autoseg.fingerprint.intensities import pooled_statistics
from autoseg.records import Dataset, Fingerprint


def merge(dataset: Dataset, measurements: Sequence[CaseMeasurement]) -> Fingerprint:
    """The fingerprint of a dataset; the same, to the last digit, in whatever order the measurements come.

    Raises DatasetError if there is no case, no case has any foreground, or a case has another number of channels.
    """
    ordered = sorted(measurements, key=lambda measurement: measurement.fingerprint.case)
    if not ordered:
        raise DatasetError("there is no case to measure", where=dataset.root)
    for measurement in ordered:
        found = len(measurement.fingerprint.intensity_range)
        if found != len(dataset.channels):
            raise DatasetError(
                f"it has {found} channels, the dataset has {len(dataset.channels)}",
                where=measurement.fingerprint.case,
                remedy="Add the missing channel, or remove the case.",
            )
    labelled = [measurement.intensities for measurement in ordered if measurement.intensities]
    if not labelled:
        raise DatasetError(
            "no voxel of any case has a label other than background",
            where=dataset.root,
            remedy="Check the label files and the values under `labels`.",
        )
    return Fingerprint(
        dataset=dataset.name,
        channels=dataset.channels,
        labels=dataset.labels,
        cases=tuple(measurement.fingerprint for measurement in ordered),
        intensities=tuple(pooled_statistics(channel) for channel in zip(*labelled, strict=True)),
        median_relative_size_after_cropping=float(np.median([measurement.relative_size for measurement in ordered])),
        labels_with_entries=len(dataset.labels.names) + (dataset.labels.ignore is not None),
        cases_declared=len(ordered),
    )
