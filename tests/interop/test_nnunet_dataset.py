from __future__ import annotations

from typing import Any

import pytest
from nnunet_builders import dataset_json

from autoseg.dataset.counted import with_cores
from autoseg.errors import ModelError, PlanError
from autoseg.interop.nnunet_dataset import channels_from_nnunet, dataset_to_nnunet, labels_from_nnunet
from autoseg.interop.nnunet_fields import Fields
from autoseg.records import Labels

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def test_channels_are_in_numerical_order() -> None:
    names = {str(number): f"band {number}" for number in reversed(range(11))}
    assert channels_from_nnunet(Fields(dataset_json(channel_names=names)))[10] == "band 10"
    older = dataset_json(modality={"0": "CT"})
    del older["channel_names"]
    assert channels_from_nnunet(Fields(older)) == ("CT",)


def test_regions_and_ignore_arrive() -> None:
    found = labels_from_nnunet(Fields(dataset_json(labels=REGIONS, regions_class_order=[1, 2, 3])))
    assert found.names == {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "enhancing": 3}
    assert (found.ignore, found.regions_class_order, found.heads) == (4, (1, 2, 3), 3)


def test_plain_labels_need_no_order() -> None:
    found = labels_from_nnunet(Fields(dataset_json(regions_class_order=[1, 2], labels={"background": "0", "a": "1"})))
    assert found == Labels(names={"background": 0, "a": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"a": 1}}, "labels: .*background"),
        ({"labels": {"background": 0, "a": 2}}, "have gaps"),
        ({"labels": {"background": 0, "a": 1.5}}, r"labels\.a: 1\.5"),
        ({"labels": {"background": 0, "a": []}}, r"labels\.a"),
        ({"labels": REGIONS}, "regions_class_order: is missing"),
        ({"labels": REGIONS, "regions_class_order": [1, 2]}, "regions_class_order"),
        ({"labels": REGIONS, "regions_class_order": [1, 2, 9]}, r"regions_class_order: \[9\]"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2]}}, r"labels\.ignore"),
        ({"labels": []}, "labels"),
        ({"channel_names": {"first": "CT"}}, "channel_names"),
    ],
)
def test_impossible_tables_are_refused_by_field(changes: dict[str, Any], message: str) -> None:
    fields = Fields(dataset_json(**changes), source="dataset.json")
    with pytest.raises(PlanError, match=message) as caught:
        (channels_from_nnunet(fields), labels_from_nnunet(fields))
    assert caught.value.where == "dataset.json"


@pytest.mark.parametrize(
    "labels",
    [
        Labels(names={"background": 0, "a": 1, "b": 2}),
        Labels(names={"background": 0, "b": 2, "a": 1}, ignore=3),
        Labels(names={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2), ignore=3),
    ],
)
def test_labels_come_back_as_they_were(labels: Labels) -> None:
    written, notes = dataset_to_nnunet(("CT", "PET"), labels, 7, ".nii.gz")
    assert labels_from_nnunet(Fields(written)) == labels
    assert channels_from_nnunet(Fields(written)) == ("CT", "PET")
    assert (written["numTraining"], written["file_ending"], notes) == (7, ".nii.gz", ())


def test_values_with_gaps_are_renumbered_and_told() -> None:
    labels = Labels(names={"background": 0, "cyst": 200, "organ": 5}, ignore=255)
    written, notes = dataset_to_nnunet(("CT",), labels, 1, ".nii.gz")
    assert written["labels"] == {"background": 0, "cyst": 2, "organ": 1, "ignore": 3}
    assert len(notes) == 1
    assert "1 where ours hold 5" in notes[0]
    assert "2 where ours hold 200" in notes[0]


def test_counted_objects_are_refused_by_what_they_are() -> None:
    counted = with_cores(Labels(names={"background": 0, "cell": 1}), ["cell"], 1.0)
    with pytest.raises(ModelError, match=r"it counts objects \(cell\), which nnU-Net does not.*--onnx"):
        dataset_to_nnunet(("grey",), counted, 1, ".png")


def test_regions_without_an_order_are_refused() -> None:
    labels = Labels.model_construct(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=None)
    with pytest.raises(ModelError, match="regions_class_order"):
        dataset_to_nnunet(("CT",), labels, 1, ".nii.gz")
