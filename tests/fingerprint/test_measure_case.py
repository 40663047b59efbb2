from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from autoseg.errors import DatasetError
from autoseg.fingerprint.case import CaseMeasurement, measure_case
from autoseg.records import Geometry, LabelMap, Labels, Volume

Make = Callable[..., tuple[Volume, LabelMap]]


def stored_otherwise(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[Geometry, Volume]:
    """The same world volume with file axes permuted and flipped; spacing and directions follow, the origin does not."""
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    image = volume.image.transpose(0, *(1 + axis for axis in axes))[(slice(None), *steps)]
    columns = volume.geometry.matrix[:3, :3][:, ::-1][:, list(axes)] * np.where(flips, -1, 1)
    affine = np.eye(4)
    affine[:3, :3] = columns[:, ::-1]
    geometry = Geometry(shape=image.shape[1:], affine=tuple(tuple(row) for row in affine.tolist()))
    return geometry, Volume(np.ascontiguousarray(image), geometry)


def statistics(measurement: CaseMeasurement) -> list[object]:
    (channel,) = measurement.intensities
    return [channel.values.tolist(), channel.counts.tolist(), channel.lowest, channel.highest]


def test_sizes_spacing_and_labels(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case(channels=2)
    measurement = measure_case("case_7", volume, label_map, names)
    found = measurement.fingerprint
    assert found.case == "case_7"
    assert found.shape == (10, 12, 14)
    assert found.spacing == (3.0, 2.0, 1.0)
    assert found.shape_after_crop == (6, 8, 10)
    assert found.orientation == "RAS"
    assert found.voxels_per_label == {"background": 10 * 12 * 14 - 72, "organ": 48, "tumor": 24}
    assert found.intensity_range == tuple((0.0, float(channel.max())) for channel in volume.image)
    assert measurement.relative_size == 480 / 1680
    assert len(measurement.intensities) == 2
    inside = volume.image[1][label_map.labels > 0]
    assert measurement.intensities[1].mean == pytest.approx(inside.mean(dtype=np.float64))
    assert measurement.intensities[1].variance == pytest.approx(inside.var(dtype=np.float64))
    assert measurement.intensities[1].counts.sum() == 72


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_the_orientation_of_the_file_does_not_show(make_case: Make, names: Labels, axes: tuple[int, ...]) -> None:
    volume, label_map = make_case()
    expected = measure_case("case", volume, label_map, names)
    for flips in itertools.product((False, True), repeat=3):
        geometry, turned = stored_otherwise(volume, axes, flips)
        turned_labels = label_map.labels.transpose(axes)[
            tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        ]
        found = measure_case("case", turned, LabelMap(turned_labels, geometry), names)
        assert found.fingerprint.model_copy(update={"orientation": "RAS"}) == expected.fingerprint
        assert statistics(found) == statistics(expected)
        stored = measure_case("case", turned, LabelMap(turned_labels, geometry), names, "stored").fingerprint
        assert stored.shape == turned.image.shape[1:]
        assert stored.spacing == tuple(expected.fingerprint.spacing[axis] for axis in axes)


def test_flat_images_keep_their_axes(names: Labels) -> None:
    geometry = Geometry(
        shape=(1, 20, 30), affine=((0.5, 0, 0, 0), (0, 0.25, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), flat=True
    )
    image = np.ones((3, 1, 20, 30), dtype=np.float32)
    found = measure_case("slide", Volume(image, geometry), None, names).fingerprint
    assert (found.shape, found.spacing, found.orientation) == ((1, 20, 30), (999 * 0.5, 0.25, 0.5), "flat")
    assert found.voxels_per_label == {}


def test_ignored_voxels_are_no_foreground_and_regions_are_summed(make_case: Make) -> None:
    labels = Labels(names={"background": 0, "whole": (1, 7), "core": 7}, ignore=255, regions_class_order=(1, 2))
    volume, label_map = make_case()
    values = label_map.labels.copy()
    values[values == 2] = 7
    values[:, :, 0] = 255
    values[3, 4, 5] = 255
    measurement = measure_case("case", volume, LabelMap(values, volume.geometry), labels)
    assert measurement.fingerprint.voxels_per_label["whole"] == 71
    assert measurement.fingerprint.voxels_per_label["core"] == 24
    assert measurement.intensities[0].counts.sum() == 71


def test_foreground_outside_the_nonzero_box_does_not_count(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    values = label_map.labels.copy()
    values[0, 0, 0] = 1  # the image is zero here, and outside its box
    values[2, 3, 1] = 1  # inside the box, wherever the mask is
    measurement = measure_case("case", volume, LabelMap(values, volume.geometry), names)
    assert measurement.fingerprint.voxels_per_label["organ"] == 50
    assert measurement.intensities[0].counts.sum() == 73


def test_cases_without_foreground_have_no_intensities(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    empty = LabelMap(np.zeros_like(label_map.labels), label_map.geometry)
    assert measure_case("case", volume, empty, names).intensities == ()
    assert measure_case("case", volume, None, names).intensities == ()


def test_an_all_zero_image_keeps_its_full_box(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    measurement = measure_case("case", Volume(np.zeros_like(volume.image), volume.geometry), label_map, names)
    assert measurement.relative_size == 1.0
    assert measurement.intensities[0].values.tolist() == [0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(make_case: Make, names: Labels, bad: float) -> None:
    volume, label_map = make_case(channels=2)
    volume.image[1, 4, 4, 4:6] = bad
    with pytest.raises(DatasetError, match="2 voxels of channel 1"):
        measure_case("case_3", volume, label_map, names)


def test_labels_of_another_shape_or_value_are_refused(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    with pytest.raises(DatasetError, match="shape"):
        measure_case("case", volume, LabelMap(label_map.labels[1:], label_map.geometry), names)
    with pytest.raises(DatasetError, match="not declared"):
        measure_case("case", volume, LabelMap(label_map.labels * 5, label_map.geometry), names)


def test_measurements_travel_between_processes(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    measurement = measure_case("case", volume, label_map, names)
    assert statistics(pickle.loads(pickle.dumps(measurement))) == statistics(measurement)


def test_equal_drawings_share_a_hash_and_boxes_have_none(make_case: Make, names: Labels) -> None:
    volume, label_map = make_case()
    drawn = np.zeros_like(label_map.labels)
    drawn[5:8, 5:8, 5:8] = 1
    assert measure_case("box", volume, LabelMap(drawn, label_map.geometry), names).drawn == ""
    drawn[5, 5, 5] = 0
    first = measure_case("one", volume, LabelMap(drawn, label_map.geometry), names).drawn
    brighter = Volume(volume.image + 5, volume.geometry)
    assert first
    assert measure_case("two", brighter, LabelMap(drawn, label_map.geometry), names).drawn == first
    drawn[7, 7, 7] = 0
    assert measure_case("three", volume, LabelMap(drawn, label_map.geometry), names).drawn not in ("", first)
