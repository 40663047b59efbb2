from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoseg.files import parse_record
from autoseg.records import Geometry, Labels


def test_the_order_of_labels_survives_sorted_json() -> None:
    labels = Labels(
        names={"background": 0, "whole": (1, 2, 3), "core": (2, 3), "active": (3,)}, regions_class_order=(1, 2, 3)
    )
    text = json.dumps(labels.model_dump(mode="json"), sort_keys=True)
    again = parse_record(text, Labels, "test")
    assert again == labels
    assert list(again.names) == ["background", "whole", "core", "active"]
    assert again.heads == 3
    assert again.foreground == {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}


@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=20, unique=True), st.integers(70_001, 80_000))
def test_values_become_consecutive_indices(values: list[int], ignore: int) -> None:
    labels = Labels(names={"background": 0, **{f"organ {v}": v for v in values}}, ignore=ignore)
    assert labels.values == (0, *sorted(values))
    assert labels.heads == len(values) + 1
    assert labels.ignore_index == len(values) + 1
    for name, (index,) in labels.foreground.items():
        assert labels.values[index] == labels.names[name]


@pytest.mark.parametrize(
    "fields",
    [
        {"names": {"organ": 1}},
        {"names": {"background": 0, "organ": 1}, "ignore": 1},
        {"names": {"background": 0, "whole": (1, 2), "core": (2,)}, "regions_class_order": (1,)},
    ],
)
def test_labels_that_contradict_themselves_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Labels.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"names": {"background": 0, "organ": -3}}, "label 'organ' has the value -3, and masks hold"),
        ({"names": {"background": 0, "whole": (1, -2)}}, "label 'whole' has the value -2, and masks hold"),
        (
            {"names": {"background": 0, "whole": (1, 2), "core": 2}, "regions_class_order": (1, -2)},
            "regions_class_order has the value -2, and masks hold",
        ),
        ({"names": {"background": 0, "organ": 2**31}}, "label 'organ' has the value 2147483648, which must be below"),
        ({"names": {"background": 0, "organ": 1}, "ignore": -(2**31)}, "label 'ignore' has the value -2147483648"),
    ],
)
def test_values_that_no_mask_holds_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Labels.model_validate(fields)
    assert Labels(names={"background": 0, "organ": 2**31 - 1}, ignore=-1).ignore_index == 2


def test_what_is_known_of_a_partly_annotated_case() -> None:
    labels = Labels(
        names={"background": 0, "a": 1, "b": 2, "c": 7, "ab": (1, 2), "abc": (1, 2, 7), "big": (1, 2, 7, 9)}
    )
    assert labels.drawn_names(None) == ("a", "b", "c", "ab", "abc", "big")
    assert labels.drawn_names(("a", "b")) == ("a", "b", "ab")
    assert labels.drawn_names(("ab", "c")) == ("c", "ab", "abc")
    assert labels.drawn_names(("big",)) == ("big",)  # what is in it, nobody knows
    assert labels.drawn_outputs(("a", "c")) == (True, False, True, False, False, False)
    plain = Labels(names={"background": 0, "a": 5, "b": 2, "c": 7})
    assert plain.drawn_outputs(("a", "background")) == (True, False, True, False)  # outputs in the order of the values
    assert plain.drawn_outputs(()) == (True, False, False, False)


def test_membership_of_values_in_regions() -> None:
    labels = Labels(names={"background": 0, "whole": (1, 5), "core": 5})
    assert labels.value_membership.tolist() == [[False, False], [True, False], [True, True]]


def test_spacing_is_in_array_order_whatever_the_direction() -> None:
    affine = np.array([[0, 0, -3.0, 7], [0, 2.0, 0, 1], [0.5, 0, 0, 2], [0, 0, 0, 1]])
    geometry = Geometry(shape=(4, 5, 6), affine=tuple(map(tuple, affine.tolist())))
    assert geometry.spacing == (3.0, 2.0, 0.5)
    assert geometry.model_copy(update={"flat": True}).spacing == (1998.0, 2.0, 0.5)


def test_labels_without_things_are_told_as_before_there_were_any() -> None:
    plain = Labels(names={"background": 0, "a": 1})
    assert set(plain.model_dump(mode="json")) == {"names", "ignore", "regions_class_order"}
    names: dict[str, int | tuple[int, ...]] = {"background": 0, "cell": (1, 3), "vessel": 2, "cell core": 3}
    counted = Labels(names=names, things={"cell": "cell core"}, core_margin_mm=1.5)
    assert Labels.model_validate_json(counted.model_dump_json()) == counted
    assert counted.classes == {"cell": (1, 3), "vessel": (2,)}


@pytest.mark.parametrize(
    "fields",
    [
        {"things": {"cell": "cell core"}},
        {"core_margin_mm": 1.0},
        {"things": {"cell core": "cell"}, "core_margin_mm": 1.0},
        {"things": {"vessel": "cell core"}, "core_margin_mm": 1.0},
        {"things": {"nobody": "cell core"}, "core_margin_mm": 1.0},
        {"things": {"cell": "cell core"}, "core_margin_mm": -1.0},
    ],
)
def test_things_need_a_core(fields: dict[str, object]) -> None:
    names = {"background": 0, "cell": (1, 3), "vessel": 2, "cell core": 3}
    with pytest.raises(ValidationError):
        Labels.model_validate({"names": names, **fields})
