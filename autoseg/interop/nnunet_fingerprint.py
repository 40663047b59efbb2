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
    dataset, measured = _entry(record, "dataset_json"), _entry(record, "fingerprint")
    names = _entry(dataset, "channel_names", "dataset_json")
    table = dict(_entry(dataset, "labels", "dataset_json"))
    intensities = _entry(measured, "foreground_intensity_properties_per_channel", "fingerprint")
    spacings = _entry(measured, "spacings", "fingerprint")
    shapes = _entry(measured, "shapes_after_crop", "fingerprint")
    if len(spacings) != len(shapes):
        raise RecordError(f"{len(spacings)} spacings but {len(shapes)} shapes_after_crop", where="fingerprint")
    channels = sorted(names, key=int)
    absent = [number for number in channels if number not in intensities]
    if absent:
        raise RecordError(
            f"no intensities for channel {absent[0]}", where="fingerprint.foreground_intensity_properties_per_channel"
        )
    try:
        return Fingerprint(
            dataset=str(record.get("name", "dataset")),
            channels=tuple(str(names[number]) for number in channels),
            labels=_labels(table, dataset),
            cases=tuple(
                _case(number, spacing, shape) for number, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
            ),
            intensities=tuple(IntensityStatistics(**intensities[number]) for number in channels),
            median_relative_size_after_cropping=_entry(measured, "median_relative_size_after_cropping", "fingerprint"),
            labels_with_entries=len(table),
            cases_declared=_entry(dataset, "numTraining", "dataset_json"),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "labels"
        raise RecordError(f"{place}: {first['msg']}", where="fingerprint record") from error


def _entry(record: Mapping[str, Any], key: str, where: str = "fingerprint record") -> Any:
    if not isinstance(record, Mapping) or key not in record:
        raise RecordError(f"no entry {key!r}", where=where, remedy="Give a record with nnU-Net's own files in it.")
    return record[key]


def _labels(table: Mapping[str, Any], dataset: Mapping[str, Any]) -> Labels:
    return Labels(
        names={
            name: tuple(value) if isinstance(value, list) else value for name, value in table.items() if name != "ignore"
        },
        ignore=table.get("ignore"),
        regions_class_order=dataset.get("regions_class_order"),
    )


def _case(number: int, spacing: list[float], shape: list[int]) -> CaseFingerprint:
    return CaseFingerprint(
        case=f"case_{number:04d}",
        shape=shape,  # type: ignore[arg-type]  # pydantic checks the three numbers
        spacing=spacing,  # type: ignore[arg-type]
        shape_after_crop=shape,  # type: ignore[arg-type]
        orientation="unknown",
        voxels_per_label={},
    )
