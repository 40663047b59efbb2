from __future__ import annotations

import numpy as np

from autoseg.preprocessing.locations import ANNOTATED, LARGEST, annotated_voxels, class_locations, label_voxels
from autoseg.records import Labels


def test_all_voxels_of_small_labels():
    labels = np.zeros((4, 5, 6), dtype=np.int16)
    labels[1, 2, 3] = labels[3, 4, 5] = 1
    labels[0, 0] = -1
    names = Labels(names={"background": 0, "a": 10, "b": 20})
    found = class_locations(labels, names)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], [[1, 2, 3], [3, 4, 5]])
    assert found["a"].dtype == np.int32
    assert found["b"].shape == (0, 3)


def test_large_labels_are_sampled_without_repetition():
    labels = np.zeros((60, 60, 30), dtype=np.int16)
    labels[:40] = 1
    found = class_locations(labels, Labels(names={"background": 0, "a": 1}))["a"]
    assert found.shape == (LARGEST, 3)
    assert len(np.unique(found, axis=0)) == LARGEST
    assert np.all(labels[tuple(found.T)] == 1)
    np.testing.assert_array_equal(found, class_locations(labels, Labels(names={"background": 0, "a": 1}))["a"])
    # over the whole of the label, not its beginning
    assert found[:, 0].min() == 0
    assert found[:, 0].max() == 39


def test_one_in_a_hundred_of_huge_labels():
    labels = np.ones((110, 100, 100), dtype=np.int16)
    assert len(class_locations(labels, Labels(names={"background": 0, "a": 1}))["a"]) == 11_000


def test_regions_and_annotated_voxels():
    labels = np.array([[[0, 1, 2, 3, -1]]], dtype=np.int16)
    names = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, ignore=3, regions_class_order=(1, 2))
    found = class_locations(labels, names)
    assert found["whole"].tolist() == [[0, 0, 1], [0, 0, 2]]
    assert found["core"].tolist() == [[0, 0, 2]]
    assert found[ANNOTATED][:, 2].tolist() == [0, 1, 2, 4]
    seen = annotated_voxels(found, has_ignore=True)
    assert seen is found[ANNOTATED]
    assert annotated_voxels(found, has_ignore=False) is None


def test_a_label_may_be_called_annotated():
    labels = np.array([[[0, 1, 2, 1]]], dtype=np.int16)
    plain = Labels(names={"background": 0, "annotated": 1, "other": 2})
    found = class_locations(labels, plain)
    assert list(label_voxels(found, has_ignore=False)) == ["annotated", "other"]
    partly = Labels(names={"background": 0, "annotated": 1}, ignore=2)
    found = class_locations(labels, partly)
    assert found["annotated"][:, 2].tolist() == [1, 3]
    assert list(label_voxels(found, has_ignore=True)) == ["annotated"]
    seen = annotated_voxels(found, has_ignore=True)
    assert seen is not None
    assert seen[:, 2].tolist() == [0, 1, 3]
