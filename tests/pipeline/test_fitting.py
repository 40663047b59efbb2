"""Plans shrink until one real step fits. The steps are pretended ones with a closed form for their memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import pytest

from autoseg.errors import PlanError
from autoseg.pipeline import fitting
from autoseg.pipeline.fitting import MOST_ATTEMPTS, fitting_plan
from autoseg.planning.overrides import Overrides
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.progress import Progress, SilentProgress
from autoseg.records import (
    CaseFingerprint,
    Configuration,
    Fingerprint,
    IntensityStatistics,
    Labels,
    Plan,
    Probe,
    StepProbe,
)

QUIET = SilentProgress()


class Listening(SilentProgress):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, words: str) -> None:
        self.warnings.append(words)


@pytest.fixture(scope="module")
def make() -> Callable[[Overrides], Plan]:
    case = CaseFingerprint(
        case="a",
        shape=(300, 400, 400),
        spacing=(1.0, 1.0, 1.0),
        shape_after_crop=(300, 400, 400),
        orientation="RAS",
        voxels_per_label={},
    )
    statistics = IntensityStatistics(mean=1, median=1, std=1, min=0, max=9, percentile_00_5=0.5, percentile_99_5=8.5)
    fingerprint = Fingerprint(
        dataset="small",
        channels=("MRI",),
        labels=Labels(names={"background": 0, "organ": 1}),
        cases=(case,),
        intensities=(statistics,),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=2,
        cases_declared=100,
    )
    device = DeviceBudget("cuda", 8, 8)
    return lambda overrides: make_plan(fingerprint, "auto", device, overrides=overrides)


def bytes_of(configuration: Configuration) -> int:
    return 1000 * math.prod(configuration.patch_size) * configuration.batch_size


def pretend(
    monkeypatch: pytest.MonkeyPatch, limit: Callable[[Configuration], int], measured: bool = True
) -> list[Plan]:
    """Steps fit up to `limit` bytes; gives the plans that were tried."""
    tried: list[Plan] = []

    def probed(
        plan: Plan,
        device: str,
        progress: Progress,
        *,
        configurations: Collection[str] | None = None,
        partly_annotated: bool = False,
        samples_at_a_time: int | None = None,
    ) -> Probe:
        del device, progress
        tried.append(plan)
        steps = []
        for entry in plan.configurations.values():
            if configurations is not None and entry.name not in configurations:
                continue
            share = (samples_at_a_time or entry.batch_size) / entry.batch_size
            fits = bytes_of(entry) * share <= limit(entry)
            steps.append(
                StepProbe(
                    configuration=entry.name,
                    fits=fits,
                    peak_bytes=bytes_of(entry) if measured else None,
                    limit_bytes=limit(entry),
                    why="" if fits else "memory ran out",
                    samples_at_a_time=samples_at_a_time,
                )
            )
        return Probe(plan=plan.name, device="pretended", precision="float32", free_bytes=1, steps=tuple(steps))

    monkeypatch.setattr(fitting, "probed", probed)
    return tried


def test_what_fits_is_tried_once(monkeypatch: pytest.MonkeyPatch, make: Callable[[Overrides], Plan]) -> None:
    tried = pretend(monkeypatch, lambda _: 10**15)
    plan, probe = fitting_plan(make, Overrides(), "cuda", QUIET)
    assert tried == [plan] == [make(Overrides())]
    assert all(step.fits for step in probe.steps)


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_plans_shrink_until_a_step_fits(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Overrides], Plan], share: float, measured: bool
) -> None:
    whole = {entry.name: bytes_of(entry) for entry in make(Overrides()).configurations.values()}
    tried = pretend(monkeypatch, lambda entry: int(share * whole[entry.name]), measured)
    progress = Listening()
    plan, probe = fitting_plan(make, Overrides(), "cuda", progress)
    assert all(step.fits for step in probe.steps)
    assert tried[-1] == plan
    assert 2 <= len(tried) <= MOST_ATTEMPTS + 1
    assert len(progress.warnings) == len(tried) - 1
    assert "does not fit: memory ran out. Planning again with" in progress.warnings[0]
    patch = next(reason for reason in plan.reasons if reason.field == "3d_fullres.patch_size")
    assert "since a real step with more did not fit" in patch.because


def test_what_was_given_cannot_shrink(monkeypatch: pytest.MonkeyPatch, make: Callable[[Overrides], Plan]) -> None:
    tried = pretend(monkeypatch, lambda entry: 10**15 if entry.dimensions == 2 else 10)
    with pytest.raises(PlanError, match=r"3d_(lowres|fullres) does not fit this device: memory ran out") as caught:
        fitting_plan(make, Overrides(patch_size_3d=(128, 128, 128), batch_size=2), "cuda", QUIET)
    assert "--no-probe" in str(caught.value)
    assert len(set(map(id, tried))) == 1


def test_a_given_batch_that_does_not_fit_is_computed_in_parts(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Overrides], Plan]
) -> None:
    overrides = Overrides(patch_size_3d=(64, 64, 64), batch_size=8)
    limits = {entry.name: bytes_of(entry) // 3 for entry in make(overrides).configurations.values()}
    pretend(monkeypatch, lambda entry: limits[entry.name])
    progress = Listening()
    plan, probe = fitting_plan(make, overrides, "cuda", progress)
    assert {entry.batch_size for entry in plan.configurations.values()} == {8}
    assert {step.samples_at_a_time for step in probe.steps} == {2}
    assert all(step.fits for step in probe.steps)
    assert "2 samples of it are computed at a time" in progress.warnings[-1]


def test_a_device_that_nothing_fits_is_told(monkeypatch: pytest.MonkeyPatch, make: Callable[[Overrides], Plan]) -> None:
    tried = pretend(monkeypatch, lambda _: 10)
    with pytest.raises(PlanError, match="does not fit this device"):
        fitting_plan(make, Overrides(), "cuda", QUIET)
    assert len(tried) <= MOST_ATTEMPTS + 1
