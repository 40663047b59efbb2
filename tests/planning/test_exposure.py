from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.planning.exposure import BACKGROUND, LabelBox, exposures, label_boxes
from autoseg.records import Fingerprint

Make = Callable[..., Fingerprint]
IMAGE = (100.0, 100.0, 100.0)
BOXES = (LabelBox(BACKGROUND, 1.0, IMAGE, 1.0), LabelBox("organ", 0.5, (20.0, 20.0, 20.0), 2.0))


def measured(make: Make, **update: object) -> Fingerprint:
    """Two cases of 50 × 100 × 100 voxels of 2 × 1 × 1 mm; the first has both labels, the second the organ alone."""
    fingerprint = make([(2.0, 1.0, 1.0)] * 2, [(50, 100, 100)] * 2)
    first, second = fingerprint.cases
    return fingerprint.model_copy(
        update={
            "cases": (
                first.model_copy(
                    update={"voxels_per_label": {"background": 490_000, "organ": 9000, "tumor": 8}, **update}
                ),
                second.model_copy(update={"voxels_per_label": {"background": 491_000, "organ": 9000, "tumor": 0}}),
            )
        }
    )


def test_chances_by_hand() -> None:
    background, organ = exposures(BOXES, (10.0, 50.0, 50.0), IMAGE, cases=10, forced=0.4)
    anywhere = 0.6 * 0.1 * 0.5 * 0.5
    assert background.voxel == pytest.approx(anywhere / 10)
    assert organ.voxel == pytest.approx((0.4 / 2 * 0.5 + anywhere) / 10)
    assert organ.any_part == pytest.approx(0.5 * (0.2 + 0.6 * 0.3 * 0.7 * 0.7))


def test_without_foreground_no_patch_is_forced() -> None:
    (background,) = exposures(BOXES[:1], IMAGE, IMAGE, cases=4, forced=1.0)
    assert background.voxel == 0.25


@given(
    patch=st.tuples(*[st.floats(1, 300)] * 3),
    forced=st.floats(0, 1),
    cases=st.integers(1, 1000),
    extent=st.tuples(*[st.floats(1, 100)] * 3),
)
def test_chances_are_chances_and_the_background_is_seen_least(
    patch: tuple[float, float, float], forced: float, cases: int, extent: tuple[float, float, float]
) -> None:
    background, organ = exposures((BOXES[0], LabelBox("organ", 0.5, extent, 3.0)), patch, IMAGE, cases, forced)
    for exposure in (background, organ):
        assert 0 <= exposure.voxel <= 1 / cases + 1e-12
        assert 0 <= exposure.any_part <= 1 + 1e-12
    assert background.voxel <= organ.voxel


def test_boxes_are_measured_ones_in_prepared_order(make_fingerprint: Make) -> None:
    extents = {"organ": (10, 20, 30), "tumor": (2, 2, 2)}
    boxes = {box.label: box for box in label_boxes(measured(make_fingerprint, label_extents=extents), (2, 0, 1), IMAGE)}
    assert boxes[BACKGROUND].extent == IMAGE
    assert boxes["tumor"] == LabelBox("tumor", 0.5, (2.0, 4.0, 2.0), 2.0)
    assert (boxes["organ"].share, boxes["organ"].companions) == (1.0, 1.5)


def test_without_boxes_a_label_is_one_solid_piece(make_fingerprint: Make) -> None:
    boxes = {box.label: box for box in label_boxes(measured(make_fingerprint), (0, 1, 2), IMAGE)}
    # 8 of 500 000 voxels, in the proportions of the image
    edge = (8 / 500_000) ** (1 / 3)
    assert boxes["tumor"].extent == pytest.approx((edge * 100, edge * 100, edge * 100))


def test_without_volumes_a_label_may_be_anywhere(make_fingerprint: Make) -> None:
    boxes = label_boxes(make_fingerprint([(1.0, 1.0, 1.0)], [(9, 9, 9)]), (0, 1, 2), (9.0, 9.0, 9.0))
    assert [box.label for box in boxes] == [BACKGROUND, "organ", "tumor"]
    assert all(box.share == 1.0 and box.extent == (9.0, 9.0, 9.0) for box in boxes)
