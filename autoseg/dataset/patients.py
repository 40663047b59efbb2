"""Datasets with one folder per patient: CASE/CASE-t1.nii.gz, with CASE/CASE-seg.nii.gz or CASE/segmentations/."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.label_files import class_files
from autoseg.dataset.listing import visible_folders
from autoseg.dataset.naming import image_entries, is_label_name, safe_id
from autoseg.dataset.readers import ending_of, stem_of
from autoseg.errors import DatasetError
from autoseg.records import Case, Labels

#: Folders beside the images of a patient that hold one file per label.
CLASS_FOLDERS = ("segmentations", "segmentation", "labels", "masks")

#: A kind of image that fewer than this share of the patients have is an extra, not a channel.
COMMON = 0.5


@dataclass(frozen=True)
class Patients:
    """Cases of a folder of patients, one path per channel (the expected path where a file is missing)."""

    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    notes: tuple[str, ...]
    labels: Labels | None = None  # where the folder names them


@dataclass(frozen=True)
class _Patient:
    id: str
    folder: Path
    images: dict[str, Path]  # kind ("t1") -> file
    labels: tuple[Path, ...]
    label_files: tuple[tuple[str, Path], ...] = ()  # (label, file), one per label

    @property
    def labelled(self) -> bool:
        """Whether any label file belongs to the patient."""
        return bool(self.labels or self.label_files)


def find_patients(root: Path) -> Patients | None:
    """The patients in a folder; None where no subfolder holds images with labels beside them.

    Raises DatasetError where a patient has several label files, since which to learn is not ours to choose.
    """
    found = [_patient(folder) for folder in visible_folders(root)]
    found = [patient for patient in found if patient.images or patient.labelled]
    if not any(patient.images and patient.labelled for patient in found):
        return None
    several = next((patient for patient in found if len(patient.labels) + bool(patient.label_files) > 1), None)
    if several is not None:
        names = ", ".join(
            path.name for path in (*several.labels, *(path.parent for _, path in several.label_files[:1]))
        )
        raise DatasetError(
            f"has several label files: {names}",
            where=several.folder,
            remedy="Keep one per patient, or describe the cases in a dataset.json.",
        )
    channels, rare = _channels(found)
    cases = tuple(_case(patient, channels) for patient in found)
    notes = [f"one folder per patient, channels by the last part of the file names: {', '.join(channels)}"]
    if rare:
        notes.append(f"left out, since fewer than half of the patients have them: {', '.join(rare)}")
    return Patients(channels, cases, tuple(notes))


def _patient(folder: Path) -> _Patient:
    images: dict[str, Path] = {}
    labels = []
    for path in image_entries(folder):
        kind = kind_of(path, folder.name)
        if is_label_name(kind):
            labels.append(path)
        else:
            images.setdefault(kind, path)
    beside = {sub.name: sub for sub in visible_folders(folder)}
    classes = next((beside[name] for name in CLASS_FOLDERS if name in beside), None)
    files = () if classes is None else class_files(classes)
    return _Patient(safe_id(folder.name, folder), folder, images, tuple(labels), files)


def kind_of(path: Path, case_id: str) -> str:
    """What a file shows, from its name without the patient's: "t1" of P01/P01-t1.nii.gz; "image" if nothing is left."""
    stem = stem_of(path)
    if stem.lower().startswith(case_id.lower()):
        stem = stem[len(case_id) :]
    return stem.strip("-_. ") or "image"


def _channels(found: list[_Patient]) -> tuple[tuple[str, ...], list[str]]:
    with_images = [patient for patient in found if patient.images]
    counts = Counter(kind for patient in with_images for kind in patient.images)
    common = tuple(sorted(kind for kind, count in counts.items() if count >= COMMON * len(with_images)))
    if not common:
        raise DatasetError(
            "the patients' files have no name in common",
            where=found[0].folder.parent,
            remedy="Name every patient's files alike, as in P01/P01-t1.nii.gz, or list them in a dataset.json.",
        )
    return common, sorted(counts.keys() - set(common))


def _case(patient: _Patient, channels: tuple[str, ...]) -> Case:
    images = tuple(patient.images.get(kind) or _expected(patient, kind) for kind in channels)
    labels = patient.labels[0] if patient.labels else None
    return Case(id=patient.id, images=images, labels=labels, label_files=patient.label_files)


def _expected(patient: _Patient, kind: str) -> Path:
    """The path that a missing image would have, from the names of its neighbours."""
    neighbours = [*patient.images.values(), *patient.labels, *(path for _, path in patient.label_files)]
    ending = ending_of(neighbours[0].name) or ""
    return patient.folder / f"{patient.id}-{kind}{ending}"
