"""nnU-Net's dataset_fingerprint.json and dataset.json as our fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from autoseg.errors import RecordError
from autoseg.records import CaseFingerprint, Fingerprint, IntensityStatistics, Labels


def fingerprint_from_nnunet(record: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint in a record `{"dataset_json": …, "fingerprint": …}`, optionally with a "name".

    nnU-Net keeps no case names, no shapes before cropping and no label volumes: cases are numbered, the cropped shape
    stands for the whole, and volumes stay empty. Axes are those of nnU-Net's reader, (Z, Y, X).

    Raises RecordError, naming the entry, if one is missing or impossible.
    """
    dataset, measured = _table(record, "dataset_json"), _table(record, "fingerprint")
    names = _table(dataset, "channel_names", "dataset_json")
    table = _table(dataset, "labels", "dataset_json")
    intensities = _table(measured, "foreground_intensity_properties_per_channel", "fingerprint")
    spacings, shapes = _list(measured, "spacings"), _list(measured, "shapes_after_crop")
    if len(spacings) != len(shapes):
        raise RecordError(f"{len(spacings)} spacings but {len(shapes)} shapes_after_crop", where="fingerprint")
    channels = _channel_numbers(names)
    absent = [number for number in channels if not isinstance(intensities.get(number), Mapping)]
    if absent:
        raise RecordError(
            f"no intensities for channel {absent[0]}", where="fingerprint.foreground_intensity_properties_per_channel"
        )
    try:
        return Fingerprint(
            dataset=str(record.get("name", "dataset")),
            channels=tuple(str(names[number]) for number in channels),
            labels=_labels(table, dataset),
            cases=tuple(_case(number, *sizes) for number, sizes in enumerate(zip(spacings, shapes, strict=True))),
            intensities=tuple(IntensityStatistics(**intensities[number]) for number in channels),
            median_relative_size_after_cropping=_entry(measured, "median_relative_size_after_cropping", "fingerprint"),
            labels_with_entries=len(table),
            cases_declared=_entry(dataset, "numTraining", "dataset_json"),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "labels"
        raise RecordError(f"{place}: {first['msg']}", where="fingerprint record") from error


def _entry(record: Mapping[str, Any], key: str, where: str) -> Any:
    if not isinstance(record, Mapping) or key not in record:
        raise RecordError(f"no entry {key!r}", where=where, remedy="Give a record with nnU-Net's own files in it.")
    return record[key]


def _table(record: Mapping[str, Any], key: str, where: str = "fingerprint record") -> dict[str, Any]:
    found = _entry(record, key, where)
    if not isinstance(found, dict):
        raise RecordError(f"{key!r} must be a JSON object", where=where)
    return found


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    found = _entry(record, key, "fingerprint")
    if not isinstance(found, list):
        raise RecordError(f"{key!r} must be a JSON list", where="fingerprint")
    return found


def _channel_numbers(names: Mapping[str, Any]) -> list[str]:
    if not names or not all(number.isdecimal() for number in names):
        raise RecordError('channel_names must be like {"0": "CT"}', where="dataset_json")
    return sorted(names, key=int)


def _labels(table: Mapping[str, Any], dataset: Mapping[str, Any]) -> Labels:
    return Labels(
        names={
            name: tuple(value) if isinstance(value, list) else value
            for name, value in table.items()
            if name != "ignore"
        },
        ignore=table.get("ignore"),
        regions_class_order=dataset.get("regions_class_order"),
    )


def _case(number: int, spacing: Any, shape: Any) -> CaseFingerprint:
    return CaseFingerprint(
        case=f"case_{number:04d}",
        shape=shape,
        spacing=spacing,
        shape_after_crop=shape,
        orientation="unknown",
        voxels_per_label={},
    )
