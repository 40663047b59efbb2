from __future__ import annotations

from typing import Any

import pytest

from autoseg.dataset.counted import with_cores
from autoseg.planning.overrides import Overrides
from autoseg.planning.plan_doubts import plan_doubts
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.records import Labels

CPU = DeviceBudget("cpu", 2, 16)

PLAIN = Labels(names={"background": 0, "cell": 1})


@pytest.mark.parametrize(
    ("margin", "spacing", "warned"),
    [
        (2.0, (2.0, 1.0, 1.0), []),
        (0.4, None, []),  # voxels as the images have them: cores are apart, however thin the border
        (0.7, (1.0, 1.4, 1.4), []),
        (0.6, (1.0, 1.4, 1.4), ["3d_fullres", "2d"]),
        (0.6, (2.0, 1.0, 1.0), ["3d_fullres"]),  # slices of 2D keep the distance that they have
    ],
)
def test_voxels_coarser_than_what_lies_between_objects_are_warned_of(
    make_fingerprint: Any, margin: float, spacing: Any, warned: list[str]
) -> None:
    labels = with_cores(PLAIN, ["cell"], margin)
    measured = make_fingerprint([(1.0, 1.0, 1.0)] * 8, [(40, 64, 64)] * 8, labels=labels)
    plan = make_plan(measured, "auto", CPU, overrides=Overrides(spacing=spacing))
    found = plan_doubts(plan, measured)
    assert sorted(problem.what.partition(":")[0] for problem in found) == sorted(warned)
    assert {problem.kind for problem in found} <= {"objects-too-fine"}
    for problem in found:
        assert f"touch lie {2 * margin:.3g} mm" in problem.what


def test_what_is_not_counted_may_be_coarse(make_fingerprint: Any) -> None:
    measured = make_fingerprint([(1.0, 1.0, 1.0)] * 8, [(40, 64, 64)] * 8, labels=PLAIN)
    plan = make_plan(measured, "auto", CPU, overrides=Overrides(spacing=(4.0, 4.0, 4.0)))
    assert plan_doubts(plan, measured) == ()
