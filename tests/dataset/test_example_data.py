from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from autoseg.dataset.checks import check_case
from autoseg.dataset.geometry import axis_codes
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image, read_labels


def test_example_data_is_a_faultless_dataset(example_data: Path) -> None:
    dataset = open_dataset(example_data)
    assert (dataset.layout, len(dataset.cases), len(dataset.test_cases)) == ("nnunet", 15, 2)
    assert check_layout(dataset) == []
    orientations, shapes = set(), set()
    for case in (*dataset.cases, *dataset.test_cases):
        assert case.labels is not None
        volume, labels = read_image(case.images), read_labels(case.labels)
        assert check_case(case, volume, labels, dataset.labels, 1) == []
        assert min(np.bincount(labels.labels.ravel(), minlength=3)) > 250
        orientations.add(axis_codes(volume.geometry))
        shapes.add(volume.geometry.shape)
    assert len(orientations) >= 5
    assert len(shapes) >= 12
    assert sum(path.stat().st_size for path in example_data.rglob("*.nii.gz")) < 2_000_000


def test_the_script_makes_these_files(repository: Path, example_data: Path, tmp_path: Path) -> None:
    path = repository / "example_data" / "make_example_data.py"
    specification = importlib.util.spec_from_file_location("make_example_data", path)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    # dataclasses look their module up by name

    sys.modules["make_example_data"] = script
    try:
        specification.loader.exec_module(script)
        image, labels, affine = script.make_case(3)
    finally:
        del sys.modules["make_example_data"]
    kept = read_image([example_data / "imagesTr" / "example_04_0000.nii.gz"])
    np.testing.assert_allclose(kept.geometry.matrix, affine, atol=1e-5)
    np.testing.assert_array_equal(read_labels(example_data / "labelsTr" / "example_04.nii.gz").labels, labels.T)
    # another machine's sine may round one way or the other
    assert np.abs(kept.image[0] - image.T).max() <= 1
