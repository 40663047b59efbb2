"""How a dataset folder is laid out: found out, named, and never guessed in silence.

A new layout is a function that returns the dataset, or None where the folder is of another kind, and one line in
`LAYOUTS`. They are tried in order. With a dataset.json no image or label file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.assembly import assemble
from autoseg.dataset.bids import find_bids
from autoseg.dataset.counted import left_out
from autoseg.dataset.declaration import FILE_NAME, Declaration, Listed, read_declaration
from autoseg.dataset.dicom import holds_dicom
from autoseg.dataset.dicom_layout import find_dicom_cases
from autoseg.dataset.label_files import class_files
from autoseg.dataset.listing import visible_folders
from autoseg.dataset.naming import (
    CHANNEL_NUMBER,
    Grouping,
    data_files,
    group_images,
    image_entries,
    pair_labels,
    safe_id,
    without_label_word,
)
from autoseg.dataset.patients import Patients, find_patients
from autoseg.dataset.readers import stem_of
from autoseg.errors import DatasetError
from autoseg.records import Case, Dataset

IMAGE_FOLDERS = ("imagesTr", "images", "image", "imgs", "img")
LABEL_FOLDERS = ("labelsTr", "labels", "label", "masks", "mask", "segmentations", "annotations", "gt")
TEST_IMAGE_FOLDERS = ("imagesTs", "images_test", "imagesTest")
TEST_LABEL_FOLDERS = ("labelsTs", "labels_test", "labelsTest")
INSTANCE_FOLDERS = ("instancesTr", "instances")
TEST_INSTANCE_FOLDERS = ("instancesTs", "instances_test")

DESCRIPTION = """\
Known are: nnU-Net's (imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json), the Medical Segmentation \
Decathlon's (a dataset.json with a training list), two folders images/ and labels/, one folder with both \
(CASE.nii.gz, CASE_seg.nii.gz), and one folder per patient (CASE/CASE-t1.nii.gz, CASE/CASE-seg.nii.gz). Instead of a \
label map a case may have a folder with one file per label (labelsTr/CASE/liver.nii.gz, \
CASE/segmentations/liver.nii.gz). Of BIDS, sub-01/anat/sub-01_T1w.nii.gz and \
derivatives/NAME/sub-01/anat/sub-01_dseg.nii.gz. A folder with a DICOM series may stand for an image \
file, and DICOM-SEG and RTSTRUCT files in a tree of DICOM files are found by what they refer to. \
Ids of objects that are to be counted lie in instancesTr/CASE.png."""


def open_dataset(root: Path) -> Dataset:
    """The dataset in a folder: its layout, channels, labels and cases, with notes on how it was read.

    Raises DatasetError where the folder is absent, of no known layout, or its dataset.json is broken. Faults of single
    cases are not errors here: `layout_checks.check_layout` reports them.
    """
    if not root.exists():
        raise DatasetError("does not exist", where=root, remedy="Give the folder that holds the dataset.")
    if not root.is_dir():
        raise DatasetError("is a file, not a dataset folder", where=root, remedy="Give the folder that holds it.")
    for layout in LAYOUTS.values():
        dataset = layout(root.absolute())
        if dataset is not None:
            if not dataset.cases:
                raise DatasetError("holds no training case", where=root, remedy="Are the images elsewhere?")
            return dataset
    seen = [path.name for path in visible_folders(root)][:5]
    inside = f"it holds the folders {', '.join(seen)}" if seen else "it holds no folders"
    remedy = _nearly(root) or DESCRIPTION
    raise DatasetError(f"is not a dataset of a known layout ({inside})", where=root, remedy=remedy)


def _nearly(root: Path) -> str | None:
    """What to rename where only the name of a folder keeps a dataset from being known; None where more does."""
    holding = [folder for folder in visible_folders(root) if image_entries(folder)]
    for names, others, name in ((LABEL_FOLDERS, IMAGE_FOLDERS, "images"), (IMAGE_FOLDERS, LABEL_FOLDERS, "labels")):
        known = [folder for folder in holding if folder.name in names]
        unknown = [folder for folder in holding if folder.name not in (*names, *others)]
        if len(known) == len(unknown) == len(holding) - 1 == 1:
            return f"If {unknown[0].name} holds the {name}, rename it to {name}."
    return None


# ---------------------------------------------------------------------------------------------------- the layouts


def decathlon(root: Path) -> Dataset | None:
    """A dataset whose dataset.json lists the cases (Medical Segmentation Decathlon; nnU-Net's `dataset` table)."""
    declaration = read_declaration(root)
    if declaration is None or not declaration.training:
        return None
    present = _Present()
    if not any(present(_inside(root, listed.images[0])) for listed in declaration.training):
        return None  # version 1 of nnU-Net lists names without the channel number: the folders tell
    if all(listed.id is None and CHANNEL_NUMBER.match(stem_of(listed.images[0])) for listed in declaration.training):
        return None  # a list of nnU-Net's own file names, which nnU-Net ignores
    cases = tuple(_listed_case(root, listed, present) for listed in declaration.training)
    test = tuple(_listed_case(root, listed, present, test=True) for listed in declaration.test)
    test = tuple(case for case in test if any(present(path) for path in case.images))
    instances = _folder(root, INSTANCE_FOLDERS)
    cases = _with_instances(_sorted(cases), instances)
    test = _with_instances(_sorted(test), _folder(root, TEST_INSTANCE_FOLDERS))
    notes = left_out(declaration.instances, instances, cases, needed=False)
    return assemble("decathlon", root, declaration, cases, test, notes)


def nnunet(root: Path) -> Dataset | None:
    """A dataset.json beside a folder of images and one of labels (nnU-Net's raw layout, version 1 and 2)."""
    declaration = read_declaration(root)
    pair = _pair(root, IMAGE_FOLDERS, LABEL_FOLDERS)
    if declaration is None or pair is None:
        return None
    return _from_folders("nnunet", root, declaration, *pair)


def folders(root: Path) -> Dataset | None:
    """A folder of images and one of labels, or of instance maps, with equal names; labels may add a last `_seg`."""
    pair = _pair(root, IMAGE_FOLDERS, LABEL_FOLDERS)
    if pair is None or (pair[1] is None and _folder(root, INSTANCE_FOLDERS) is None):
        return None
    if pair[1] is not None and holds_dicom(pair[1]):
        return None
    return _from_folders("folders", root, Declaration(), *pair)


def flat(root: Path) -> Dataset | None:
    """Images and label files in one folder, these with a last word such as `_seg` or `-mask`."""
    files = image_entries(root)
    label_files = [path for path in files if without_label_word(stem_of(path)) != stem_of(path)]
    declaration = read_declaration(root) or Declaration()
    images = [path for path in files if path not in label_files]
    if not images or not label_files:
        return None
    cases, grouping = _paired(images, label_files, [], len(declaration.channels) or None, None)
    if not any(case.labelled for case in cases):
        return None
    return assemble("flat", root, declaration, cases, (), () if grouping.note is None else (grouping.note,))


def bids(root: Path) -> Dataset | None:
    """Images in sub-*/[ses-*/]anat, and labels in derivatives/*/sub-*/… (BIDS)."""
    return _from_found("bids", root, find_bids(root))


def patients(root: Path) -> Dataset | None:
    """One folder per patient, with the labels named by a last word such as `seg` or `mask`."""
    return _from_found("patients", root, find_patients(root))


def dicom(root: Path) -> Dataset | None:
    """A tree of DICOM files: series of images, with DICOM-SEG or RTSTRUCT files that refer to them."""
    return _from_found("dicom", root, find_dicom_cases(root))


LAYOUTS: dict[str, Callable[[Path], Dataset | None]] = {
    "decathlon": decathlon,
    "nnunet": nnunet,
    "folders": folders,
    "bids": bids,
    "patients": patients,
    "flat": flat,
    "dicom": dicom,
}


# -------------------------------------------------------------------------------------------------------- pieces


class _Present:
    """Whether files exist, with one listing per folder instead of one question per file."""

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}

    def __call__(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = {entry.name for entry in image_entries(folder)} if folder.is_dir() else set()
        return path.name in self._names[folder]


def _listed_case(root: Path, listed: Listed, present: _Present, test: bool = False) -> Case:
    images = tuple(_inside(root, image) for image in listed.images)
    labels = None if listed.labels is None else _inside(root, listed.labels)
    if test and labels is None:
        labels = next((root / name / images[0].name for name in TEST_LABEL_FOLDERS), None)
    case_id = safe_id(listed.id or stem_of(images[0]), root / FILE_NAME)
    return Case(id=case_id, images=images, labels=labels if labels is not None and present(labels) else None)


def _inside(root: Path, name: str) -> Path:
    """The file of that name in the dataset; what lies elsewhere is not read at the word of somebody's dataset.json."""
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)):
        raise DatasetError(
            f"names {name!r}, which lies outside the dataset's folder",
            where=root / FILE_NAME,
            remedy="Put the file, or a link to it, into the folder.",
        )
    return path


def _pair(root: Path, images: Sequence[str], labels: Sequence[str]) -> tuple[Path, Path | None] | None:
    """The folders of images and labels, by the names people give them."""
    image_folder = _folder(root, images)
    return None if image_folder is None else (image_folder, _folder(root, labels))


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    """The first of the folders of these names that there is."""
    present = {path.name: path for path in visible_folders(root)}
    return next((present[name] for name in names if name in present), None)


def _with_instances(cases: tuple[Case, ...], folder: Path | None) -> tuple[Case, ...]:
    """The cases with their files of a folder of instance maps."""
    if folder is None:
        return cases
    pairs = pair_labels([case.id for case in cases], data_files(folder))
    return tuple(
        case.model_copy(update={"instances": pairs[case.id][0]}) if case.id in pairs else case for case in cases
    )


def _from_folders(layout: str, root: Path, declaration: Declaration, images: Path, labels: Path | None) -> Dataset:
    channels = len(declaration.channels) or None
    instances = _folder(root, INSTANCE_FOLDERS)
    training, grouping = _cases(images, labels, channels, instances)
    notes = [] if grouping.note is None else [grouping.note]
    notes += left_out(declaration.instances, instances, training, needed=labels is None)
    if labels is not None:
        used = {path.parent.name for case in training for _, path in case.label_files[:1]}
        unpaired = [folder.name for folder in visible_folders(labels) if used and folder.name not in used]
        if unpaired:
            notes.append(f"folders of label files without an image are left out: {', '.join(unpaired)}")
    test_pair = _pair(root, TEST_IMAGE_FOLDERS, TEST_LABEL_FOLDERS)
    test: tuple[Case, ...] = ()
    if test_pair is not None:
        count = channels or len(training[0].images) if training else channels
        test, _ = _cases(*test_pair, count, _folder(root, TEST_INSTANCE_FOLDERS))
    return assemble(layout, root, declaration, training, test, tuple(notes))


def _from_found(layout: str, root: Path, found: Patients | None) -> Dataset | None:
    if found is None:
        return None
    declaration = read_declaration(root) or Declaration()
    named = replace(
        declaration,
        channels=found.channels if layout != "dicom" else declaration.channels or found.channels,
        labels=declaration.labels or found.labels,
        file_ending=None,
        cases_declared=None,
    )
    return assemble(layout, root, named, found.cases, (), found.notes)


def _cases(
    images: Path, labels: Path | None, channels: int | None, instances: Path | None
) -> tuple[tuple[Case, ...], Grouping]:
    label_files = [] if labels is None else data_files(labels)
    # a folder named like a case holds one file per label
    class_folders = [] if labels is None else visible_folders(labels)
    return _paired(image_entries(images), label_files, class_folders, channels, instances)


def _paired(
    images: Sequence[Path],
    label_files: Sequence[Path],
    class_folders: Sequence[Path],
    channels: int | None,
    instances: Path | None,
) -> tuple[tuple[Case, ...], Grouping]:
    """Images with the label files, or folders of them, that have their names."""
    stems = [*(stem_of(path) for path in label_files), *(folder.name for folder in class_folders)]
    if not stems and instances is not None:
        stems = [stem_of(path) for path in data_files(instances)]
    grouping = group_images(images, channels, stems)
    ids = [case_id for case_id, _ in grouping.cases]
    pairs, folders_of = pair_labels(ids, label_files), {folder.name: folder for folder in class_folders}
    cases = tuple(
        Case(
            id=case_id,
            images=paths,
            labels=pairs[case_id][0] if case_id in pairs else None,
            label_files=class_files(folders_of[case_id]) if case_id in folders_of else (),
        )
        for case_id, paths in grouping.cases
    )
    return _with_instances(cases, instances), grouping


def _sorted(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=lambda case: case.id))
