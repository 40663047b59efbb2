"""Scores that nnU-Net wrote: its summary.json, and how its labels are called.

nnU-Net calls labels by their values: "1", or "(1, 2)" for a region. A value that does not exist is NaN there, which is
no JSON, but what Python writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autoseg.dataset.readers import stem_of
from autoseg.errors import AutosegError, RecordError
from autoseg.evaluation.differences import CaseValues
from autoseg.evaluation.summary import nnunet_key
from autoseg.interop.nnunet_dataset import labels_from_nnunet
from autoseg.interop.nnunet_fields import is_number, parse_fields
from autoseg.records import Labels

#: What nnU-Net calls its metrics, and the fields of a LabelScore.
METRICS = {"Dice": "dice", "IoU": "iou"}

#: Folders above a summary in which nnU-Net leaves a dataset.json: beside masks, above a cross-validation, above a fold.
_LEVELS = 3


def is_nnunet_summary(raw: object) -> bool:
    """Whether this, as JSON, is a summary of nnU-Net and none of ours, which has its fields too."""
    return isinstance(raw, Mapping) and "metric_per_case" in raw and "cases" not in raw


def nnunet_scores(raw: Mapping[str, Any], where: Path) -> dict[str, CaseValues]:
    """The scores of each case, with labels called by nnU-Net's keys; cases are the names of its masks without ending.

    As in our own scores a label counts where the reference has it. Raises RecordError for a file that nnU-Net did not
    write so, and for two masks of one name.
    """
    found: dict[str, CaseValues] = {}
    entries = raw["metric_per_case"]
    if not isinstance(entries, list):
        raise _broken("metric_per_case", "is no list", where)
    for number, entry in enumerate(entries):
        field = f"metric_per_case[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("prediction_file"), str):
            raise _broken(f"{field}.prediction_file", "is missing", where)
        case = case_of(entry["prediction_file"])
        if case in found:
            raise _broken(field, f"is the second score of {case}", where)
        found[case] = _values(entry.get("metrics"), f"{field}.metrics", where)
    return found


def case_of(file: str) -> str:
    """The case of a mask that was written on any system: the file's name without folder and ending."""
    return stem_of(file.replace("\\", "/").rpartition("/")[2])


def _values(metrics: object, field: str, where: Path) -> CaseValues:
    if not isinstance(metrics, Mapping):
        raise _broken(field, "is no object", where)
    values: dict[str, dict[str, float]] = {}
    alarms = []
    for key, entry in metrics.items():
        counts = [entry.get(name) for name in ("n_ref", "n_pred")] if isinstance(entry, Mapping) else [None]
        if not all(is_number(count) for count in counts):
            raise _broken(f"{field}.{key}", "lacks n_ref or n_pred", where)
        in_reference, in_mask = counts
        if in_reference:
            values[key] = {ours: float(entry[name]) for name, ours in METRICS.items() if is_number(entry.get(name))}
        elif in_mask:
            alarms.append(key)
    return CaseValues(values, tuple(alarms))


def _broken(field: str, what: str, where: Path) -> RecordError:
    return RecordError(f"field {field}: {what}", where=where, remedy="Evaluate again, with nnU-Net or with autoseg.")


def label_names(summary: Path) -> dict[str, str]:
    """How labels are called by nnU-Net's keys, from the dataset.json that it left near a summary; empty without one.

    A file of that name that nnU-Net could not have trained with is another's, and says nothing here.
    """
    for folder in list(summary.absolute().parents)[:_LEVELS]:
        path = folder / "dataset.json"
        if path.is_file():
            with suppress(AutosegError):
                return names_of(labels_from_nnunet(parse_fields(path.read_bytes(), str(path))))
    return {}


def names_of(labels: Labels) -> dict[str, str]:
    """The names of labels by nnU-Net's keys."""
    return {nnunet_key(labels.names[name]): name for name in labels.foreground}
