"""What is wrong with the files of a dataset, from names and listings alone: findings with file, cause and remedy."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from autoseg.dataset.listing import visible_files, visible_folders
from autoseg.dataset.readers import ending_of, is_part_of_image
from autoseg.records import Case, Dataset, Problem

#: Files that lie beside images without meaning a fault.
COMPANIONS = (".json", ".txt", ".md", ".csv", ".tsv", ".pdf", ".bval", ".bvec")


def check_layout(dataset: Dataset) -> list[Problem]:
    """Findings about the files of a dataset, from names and listings alone: no file is opened."""
    folders = [folder for folder in _folders(dataset) if folder.is_dir()]
    present = {path for folder in folders for path in visible_files(folder)}
    series = {path for folder in folders for path in visible_folders(folder)}
    problems = _duplicates(dataset)
    for case in dataset.cases:
        problems += _missing_images(case, dataset, present | series)
        if not case.labelled:
            problems.append(
                Problem(
                    severity="error",
                    kind="missing-label",
                    what="this case has no label file",
                    remedy="Add its labels, or take its image out of the training folder.",
                    case=case.id,
                    file=case.images[0],
                )
            )
    return problems + _strangers(dataset, present)


def _folders(dataset: Dataset) -> list[Path]:
    """Folders in which the files of training cases lie; those with one file per label hold no strangers."""
    found: dict[Path, None] = {}
    for case in dataset.cases:
        for path in (*case.images, *_maps(case)):
            found[path.parent] = None
    return list(found)


def _maps(case: Case) -> tuple[Path, ...]:
    """The label map and the map of objects of a case, where it has them."""
    return tuple(path for path in (case.labels, case.instances) if path is not None)


def _duplicates(dataset: Dataset) -> list[Problem]:
    by_id: dict[str, list[Case]] = defaultdict(list)
    for case in dataset.cases:
        by_id[case.id].append(case)
    by_folded: dict[str, list[str]] = defaultdict(list)
    for case_id in by_id:
        by_folded[case_id.casefold()].append(case_id)
    problems = [
        Problem(
            severity="error",
            kind="duplicated-id",
            what=f"several files make the same case: {', '.join(str(case.images[0]) for case in cases)}",
            remedy="Rename or remove all but one.",
            case=case_id,
            file=cases[0].images[0],
        )
        for case_id, cases in by_id.items()
        if len(cases) > 1
    ]
    problems += [
        Problem(
            severity="warning",
            kind="similar-id",
            what=f"case ids differ only in upper and lower case: {', '.join(ids)}",
            remedy="Rename one: on Windows and macOS their masks would be one file.",
            case=ids[0],
        )
        for ids in by_folded.values()
        if len(ids) > 1
    ]
    overlap = {case.id for case in dataset.cases} & {case.id for case in dataset.test_cases}
    problems += [
        Problem(
            severity="warning",
            kind="test-case-in-training",
            what="this id occurs among the training and the test cases",
            remedy="If it is the same patient, take it out of one of them.",
            case=case_id,
        )
        for case_id in sorted(overlap)
    ]
    return problems


def _missing_images(case: Case, dataset: Dataset, present: set[Path]) -> list[Problem]:
    count, wanted = len(case.images), len(dataset.channels)
    missing = [(number, path) for number, path in enumerate(case.images) if path not in present]
    problems = []
    for number, path in missing:
        alone = count == 1
        name = dataset.channels[number] if number < wanted else str(number)
        problems.append(
            Problem(
                severity="error",
                kind="missing-image" if alone else "missing-channel",
                what=f"the image {path.name} does not exist" if alone else f"channel {number} ({name}) is missing",
                remedy=f"Add {path.name}, or leave this case out.",
                case=case.id,
                file=path,
            )
        )
    if count not in (1, wanted):
        problems.append(
            Problem(
                severity="error",
                kind="channel-count",
                what=f"it has {count} image files, the dataset {wanted} channels ({', '.join(dataset.channels)})",
                remedy="Give every case one file per channel, or correct channel_names in dataset.json.",
                case=case.id,
                file=case.images[0],
            )
        )
    return problems


def _strangers(dataset: Dataset, present: set[Path]) -> list[Problem]:
    """Files beside those of the cases that belong to no case."""
    used = {path for case in (*dataset.cases, *dataset.test_cases) for path in case.images}
    used |= {path for case in (*dataset.cases, *dataset.test_cases) for path in case.label_paths}
    problems = []
    label_folders = {path.parent for case in dataset.cases for path in _maps(case)}
    image_folders = {case.images[0].parent for case in dataset.cases}
    slices_in = {path.parent for path in used if is_part_of_image(path)}
    for path in sorted(present - used):
        if path.parent in slices_in:
            continue
        known = ending_of(path.name) is not None
        if not known and path.suffix.lower() in COMPANIONS:
            continue
        unpaired = known and path.parent in label_folders - image_folders
        problems.append(
            Problem(
                severity="warning" if known else "note",
                kind="label-without-image" if unpaired else "file-without-case" if known else "unknown-file",
                what="no image belongs to this label file"
                if unpaired
                else "belongs to no case and is left out"
                if known
                else "no reader knows this ending; the file is left out",
                remedy="Add the image with the same name, or remove the file." if unpaired else "Remove or rename it.",
                file=path,
            )
        )
    return problems
