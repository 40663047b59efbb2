from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.dataset.label_table import label_table
from autoseg.errors import DatasetError
from autoseg.records import Labels

FILE = Path("dataset.json")
PARTS = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4}


def labels_of(table: dict[str, object], **record: object) -> Labels:
    labels, _ = label_table({"labels": table, **record}, FILE)
    assert labels is not None
    return labels


def test_regions_by_the_names_of_other_labels() -> None:
    labels = labels_of({**PARTS, "tumor_core": "enhancing + necrosis", "whole": "tumor_core+edema"})
    assert labels.names["tumor_core"] == (4, 1)
    assert labels.names["whole"] == (4, 1, 2)
    assert labels.heads == 5
    assert labels.regions_class_order is None


@pytest.mark.parametrize("entry", ["4 + necrosis", ["enhancing", 1], [4, 1], ["enhancing + necrosis"], "enhancing+1+4"])
def test_numbers_and_names_may_be_mixed(entry: object) -> None:
    assert labels_of({**PARTS, "core": entry}).names["core"] == (4, 1)


def test_a_name_may_hold_a_plus_or_look_like_a_number() -> None:
    labels = labels_of({"background": 0, "fat+water": 1, "2": 5, "both": ["fat+water", "2"]})
    assert labels.names["both"] == (1, 5)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"core": "enhancing + nekrosis"}, r"labels\.core: 'nekrosis' is neither .* necrosis, edema, enhancing"),
        ({"core": "core + edema"}, r"labels\.core: it is made of itself: core → core"),
        ({"a": "b + edema", "b": ["c"], "c": "a"}, r"labels\.a: it is made of itself: a → b → c → a"),
        ({"z": "a", "a": "b", "b": "a"}, r"labels\.z: it is made of itself: a → b → a"),
        ({"core": "enhancing +"}, r"labels\.core: '' is neither"),
        ({"core": []}, r"labels\.core: the list is empty"),
        ({"core": [1, [2]]}, r"labels\.core: \[2\] is neither"),
        ({"core": [1, True]}, r"labels\.core: True is neither"),
        ({"core": "enhancing + ignore", "ignore": 5}, r"labels\.core: 'ignore' is neither"),
        ({"ignore": [5, 6]}, "ignore must be one value"),
        ({"vessel": -3}, r"^dataset\.json: field labels: label 'vessel' has the value -3, .* give it another value"),
        ({"vessel": "-3"}, "label 'vessel' has the value -3"),
        ({"whole": [1, -2]}, "label 'whole' has the value -2"),
    ],
)
def test_what_makes_no_sense_names_the_field(entries: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        labels_of({**PARTS, **entries})


def test_the_ignore_label_is_kept_apart() -> None:
    labels = labels_of({**PARTS, "ignore": "255"})
    assert labels.ignore == 255
    assert "ignore" not in labels.names
    assert labels_of({**PARTS, "ignore": -1}).ignore == -1


def test_too_many_values_are_refused() -> None:
    with pytest.raises(DatasetError, match="32768 values"):
        labels_of({"background": 0, "all": list(range(1, 32768))})
    assert len(labels_of({"background": 0, "all": list(range(1, 32767))}).values) == 32767
