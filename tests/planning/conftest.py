"""Small fingerprints to plan from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoseg.records import CaseFingerprint, Fingerprint, IntensityStatistics, Labels, Shape, Spacing

MakeFingerprint = Callable[..., Fingerprint]


@pytest.fixture(scope="session")
def make_fingerprint() -> MakeFingerprint:
    def make(
        spacings: list[Spacing],
        shapes: list[Shape],
        channels: tuple[str, ...] = ("MRI",),
        labels: Labels | None = None,
        relative_size: float = 1.0,
        cases_declared: int | None = None,
    ) -> Fingerprint:
        table = labels or Labels(names={"background": 0, "organ": 1, "tumor": 2})
        statistics = IntensityStatistics(
            mean=1, median=1, std=1, min=0, max=9, percentile_00_5=0.5, percentile_99_5=8.5
        )
        return Fingerprint(
            dataset="small",
            channels=channels,
            labels=table,
            cases=tuple(
                CaseFingerprint(
                    case=f"case_{number}",
                    shape=shape,
                    spacing=spacing,
                    shape_after_crop=shape,
                    orientation="RAS",
                    voxels_per_label={},
                )
                for number, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
            ),
            intensities=(statistics,) * len(channels),
            median_relative_size_after_cropping=relative_size,
            labels_with_entries=len(table.names) + (table.ignore is not None),
            cases_declared=cases_declared or len(shapes),
        )

    return make
