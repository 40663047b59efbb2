"""The layout of a tree of DICOM files: series of images, and DICOM-SEG or RTSTRUCT objects that refer to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from autoseg.dataset.dicom import Found, find_series
from autoseg.dataset.dicom_inputs import series_names
from autoseg.dataset.dicom_labels import label_names, referenced_series
from autoseg.dataset.patients import Patients
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Case


def find_dicom_cases(root: Path) -> Patients | None:
    """A case for each series of images that an object with labels refers to; None where there is none.

    The channel is called like the modality that all series have.
    Raises DatasetError where there are labels and images, but none belong together.
    """
    found = find_series(root)
    images = [one for one in found if not one.labels and not one.localizer]
    labels = [one for one in found if one.labels]
    if not images or not labels:
        return None
    drawn, notes = _pairs(images, labels)
    labelled = [one for one in images if drawn[one.path]]
    if not labelled:
        raise DatasetError(
            f"holds {len(images)} series of images and {len(labels)} files of labels, but none refers to another",
            where=root,
            remedy="Are the series that the labels were drawn on missing?",
        )
    cases = []
    for name, image in zip(series_names(labelled, root), labelled, strict=True):
        cases.append(Case(id=name, images=(image.path,), label_files=_label_files(drawn[image.path])))
    if len(labelled) < len(images):
        others = Counter(one.modality for one in images if not drawn[one.path])
        told = ", ".join(f"{count} {modality or '?'}" for modality, count in others.most_common())
        notes.append(f"series without labels are left out: {told}")
    modalities = {one.modality for one in labelled}
    channel = modalities.pop() if len(modalities) == 1 else "channel_0"
    return Patients((channel or "channel_0",), tuple(sorted(cases, key=lambda case: case.id)), tuple(notes))


def _pairs(images: list[Found], labels: list[Found]) -> tuple[dict[Path, list[Path]], list[str]]:
    """Files of labels for the path of each series, by reference, or by folder where a file refers to nothing."""
    drawn: dict[Path, list[Path]] = {one.path: [] for one in images}
    by_uid = {one.series: one for one in images}
    notes = []
    strangers = 0
    for one in labels:
        wanted = referenced_series(one.path)
        meant = next((by_uid[uid] for uid in wanted if uid in by_uid), None)
        if meant is None and not wanted:
            beside = [image for image in images if image.folder == one.folder]
            meant = beside[0] if len(beside) == 1 else None
            if meant is not None:
                notes.append(f"{one.path.name} refers to no series: it is taken as drawn on the one in its folder")
        if meant is None:
            strangers += 1
        else:
            drawn[meant.path].append(one.path)
    if strangers:
        notes.append(f"{strangers} files of labels refer to series that are not here: left out")
    return drawn, notes


def _label_files(paths: list[Path]) -> tuple[tuple[str, Path], ...]:
    """(label name, file) for the labels of a case; a file that cannot be read is left to the check.

    Raises DatasetError where two files hold a label of one name: which of them to learn is not ours to choose.
    """
    files: dict[str, Path] = {}
    for path in paths:
        try:
            names = label_names(path)
        except ReadError:
            names = (path.stem,)
        for name in names:
            if name in files:
                raise DatasetError(
                    f"holds the label {name!r}, which {files[name].name} holds for the same series as well",
                    where=path,
                    remedy="Keep one of the two files, or give the labels different names.",
                )
            files[name] = path
    return tuple(files.items())
