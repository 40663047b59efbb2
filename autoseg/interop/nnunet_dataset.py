"""Channels and labels as nnU-Net's dataset.json declares them, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from autoseg.errors import ModelError
from autoseg.interop.nnunet_fields import Fields, is_whole
from autoseg.records import Labels


def channels_from_nnunet(dataset: Fields) -> tuple[str, ...]:
    """Channel names in order of their numbers; older files call the table `modality`."""
    field = "modality" if "channel_names" not in dataset.values and dataset.has("modality") else "channel_names"
    table = dataset.table(field).values
    if not table or not all(str(number).isdecimal() for number in table):
        raise dataset.error(field, 'must be like {"0": "CT"}')
    return tuple(str(table[number]) for number in sorted(table, key=int))


def labels_from_nnunet(dataset: Fields) -> Labels:
    """The labels with which a network was trained.

    Raises PlanError for a table that nnU-Net could not have trained with: without background, or with gaps between
    plain values (its masks hold the number of the network's output, which then is not the value).
    """
    table = dataset.table("labels")
    names = {name: _value(table, name) for name in table.values if name != "ignore"}
    ignore = _value(table, "ignore") if table.has("ignore") else None
    order = dataset.values.get("regions_class_order")
    if isinstance(ignore, tuple):
        raise table.error("ignore", "must be one value")
    if order is not None and not (isinstance(order, Sequence) and all(is_whole(value) for value in order)):
        raise dataset.error("regions_class_order", f"{order!r} is not a list of label values")
    regions = any(isinstance(value, tuple) and len(value) > 1 for value in names.values())
    if regions and order is None:
        raise dataset.error("regions_class_order", "is missing, and some labels are regions", "Add it.")
    try:
        labels = Labels(
            names=names,
            ignore=ignore,
            # plain labels do without: nnU-Net ignores what stands there
            regions_class_order=tuple(int(value) for value in order) if regions and order is not None else None,
        )
    except ValidationError as error:
        raise dataset.error("labels", error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    if not regions and labels.values != tuple(range(len(labels.values))):
        raise dataset.error("labels", f"the values {list(labels.values)} have gaps, with which nnU-Net cannot train")
    unknown = [value for value in labels.regions_class_order or () if value not in labels.values]
    if unknown:
        raise dataset.error("regions_class_order", f"{unknown} are values of no label")
    return labels


def _value(table: Fields, name: str) -> int | tuple[int, ...]:
    value = table.get(name)
    if isinstance(value, list | tuple) and value:
        return tuple(_number(table, name, member) for member in value)
    return _number(table, name, value)


def _number(table: Fields, name: str, value: Any) -> int:
    if is_whole(value):
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    raise table.error(name, f"{value!r} is neither a label value nor a list of them")


def dataset_to_nnunet(
    channels: Sequence[str], labels: Labels, cases: int, file_ending: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """dataset.json for a model, and notes on what nnU-Net cannot express as it is.

    nnU-Net's plain labels are 0, 1, 2, … and its masks hold these numbers: other values are renumbered, with a note.
    Regions keep their values.

    Raises ModelError for regions without an order in which they are written, and for labels that are counted.
    """
    if labels.things:
        raise ModelError(
            f"it counts objects ({', '.join(labels.things)}), which nnU-Net does not",
            remedy="Export it with --onnx, or use it with autoseg.",
        )
    notes = []
    entries: dict[str, Any] = {}
    order = labels.regions_class_order
    if labels.has_regions and order is None:
        raise ModelError(
            "its regions have no regions_class_order, without which nnU-Net cannot write masks",
            remedy="Declare one in dataset.json before training.",
        )
    numbers = {value: value if labels.has_regions else place for place, value in enumerate(labels.values)}
    for name, value in labels.names.items():
        entries[name] = [numbers[member] for member in value] if isinstance(value, tuple) else numbers[value]
    renumbered = {value: number for value, number in numbers.items() if value != number}
    if renumbered:
        told = ", ".join(f"{number} where ours hold {value}" for value, number in renumbered.items())
        notes.append(f"nnU-Net's labels are 0, 1, 2, … without gaps: its masks hold {told}")
    if labels.ignore is not None:
        entries["ignore"] = max(numbers.values()) + 1  # nnU-Net accepts no other
    dataset: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": entries,
        "numTraining": cases,
        "file_ending": file_ending,
    }
    if labels.has_regions and order is not None:
        dataset["regions_class_order"] = list(order)
    return dataset, tuple(notes)
