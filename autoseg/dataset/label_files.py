"""One binary file per label: which labels there are, which overlap, and the files of a case as one label map.

Voxels above 0 belong to the label of the file. Where labels overlap, each combination that occurs gets a value of its
own and each label is a region: all the values whose voxels belong to it. So one label map holds them all, and nothing
after it needs to know about files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from autoseg.dataset.combinations import Combination, Combined, read_combined, value_of, with_combinations
from autoseg.dataset.instance_maps import read_objects
from autoseg.dataset.label_values import with_white_as_label
from autoseg.dataset.naming import data_files
from autoseg.dataset.readers import image_of, on_grid, read_labels_on, stem_of, tells_grid
from autoseg.dataset.voxels import smallest_type
from autoseg.errors import DatasetError
from autoseg.machine import available_cores
from autoseg.records import Case, LabelMap, Labels

#: File names that mean no label of their own.
BACKGROUND, IGNORE = "background", "ignore"


# ------------------------------------------------------------------------------------------------- files and names


def class_files(folder: Path) -> tuple[tuple[str, Path], ...]:
    """(label name, file) for the files of a folder, by name. Raises DatasetError where two files give one name."""
    found: dict[str, Path] = {}
    for path in data_files(folder):
        name = stem_of(path)
        if name in found:
            raise DatasetError(f"has two files for the label {name!r}", where=folder, remedy="Remove one of them.")
        found[name] = path
    return tuple((name, found[name]) for name in sorted(found))


def file_names(cases: Iterable[Case]) -> tuple[str, ...]:
    """All names for which some case has a file, ascending."""
    return tuple(sorted({name for case in cases for name, _ in case.label_files}))


def labels_of_files(cases: Sequence[Case], declared: Labels | None, root: Path) -> tuple[Labels, tuple[str, ...]]:
    """The labels of a dataset with one file per label, and notes for the user.

    Without a declaration the values are 1, 2, … in the order of the names. Combinations of labels that share voxels
    get the values above all others. Every label file is read once; one that cannot be read is left to the check.
    Raises DatasetError where no file belongs to a declared label.
    """
    names = file_names(cases)
    start, notes = _declared(names, declared, root) if declared is not None else (_numbered(names), [])
    kept = [name for name in names if name in start.names or name == IGNORE]
    with ThreadPoolExecutor(max_workers=min(8, available_cores())) as pool:
        found = list(pool.map(lambda case: _combinations_in(case, start), cases))
    labels = with_combinations(start, kept, {one for several in found if several is not None for one in several})
    notes.append(f"one file per label: {', '.join(name for name in start.foreground if name in names)}")
    new = len(labels.values) - len(start.values)
    if new:
        notes.append(
            f"labels share voxels, as all label files were read to find: {new} combinations of labels have the values "
            f"above {max(start.values)}, and each label is a region"
        )
    unread = sum(one is None for one in found)
    if unread:
        notes.append(f"the label files of {unread} cases could not be used to find which labels share voxels")
    return labels, tuple(notes)


def _numbered(names: Sequence[str]) -> Labels:
    """Values 1, 2, … for the names; those of combinations will follow, and ignored voxels have the next."""
    numbered = [name for name in names if name not in (BACKGROUND, IGNORE)]
    values: dict[str, int | tuple[int, ...]] = {BACKGROUND: 0}
    values |= {name: value for value, name in enumerate(numbered, start=1)}
    return Labels(names=values, ignore=len(values) if IGNORE in names else None)


def _declared(names: Sequence[str], declared: Labels, root: Path) -> tuple[Labels, list[str]]:
    """The declared labels, and notes where files and declaration do not name the same."""
    known = {*declared.foreground, BACKGROUND, *([] if declared.ignore is None else [IGNORE])}
    if not any(name in declared.foreground for name in names):
        raise DatasetError(
            f"has one file per label, but none of a label that dataset.json declares: there are {', '.join(names)}",
            where=root,
            remedy="Name the labels in dataset.json like the files.",
        )
    notes = []
    left_out = [name for name in names if name not in known]
    if left_out:
        notes.append(f"dataset.json does not declare these label files, which are left out: {', '.join(left_out)}")
    no_file = [name for name in declared.foreground if name not in names and not _is_union(name, names, declared)]
    if no_file:
        notes.append(f"no case has a file for: {', '.join(no_file)}")
    return declared, notes


def _is_union(name: str, files: Collection[str], labels: Labels) -> bool:
    return name in labels.drawn_names([other for other in labels.foreground if other in files])


def chosen_files(case: Case, labels: Labels) -> Case:
    """The case with those of its files that belong to a label, in the order of the labels."""
    order = [*labels.foreground, *([] if labels.ignore is None else [IGNORE])]
    files = dict(case.label_files)
    return case.model_copy(update={"label_files": tuple((name, files[name]) for name in order if name in files)})


def with_drawn(case: Case, labels: Labels, names: Collection[str]) -> Case:
    """The case with `annotated`: without a label that has a file in another case (`names`) and none in this."""
    if not case.label_files:
        return case
    files = dict(case.label_files)
    known = [name for name in labels.foreground if name in files or name not in names]
    # a region without a file of its own is known where all its parts are
    known = [name for name in known if name in files or not _lacks_parts(name, files, labels, names)]
    drawn = labels.drawn_names(known)
    return case.model_copy(update={"annotated": None if len(drawn) == len(labels.foreground) else drawn})


def _lacks_parts(name: str, files: Mapping[str, Path], labels: Labels, names: Collection[str]) -> bool:
    members = set(labels.foreground[name])
    return any(
        other != name and other in names and other not in files and set(labels.foreground[other]) & members
        for other in labels.foreground
    )


def _combinations_in(case: Case, labels: Labels) -> set[Combination] | None:
    """Combinations that a case has; None where its files cannot be read together."""
    files = chosen_files(case, labels).label_files
    if not files:
        return set()
    try:
        combined = read_combined(files, image_of(case))
    except DatasetError:
        return None
    return {_drawn_part(combined.combinations[code]) for code in combined.occurring()}


def _drawn_part(one: Combination) -> Combination:
    """What a combination says of labels: nothing where it is to be ignored."""
    return frozenset() if IGNORE in one else one


# --------------------------------------------------------------------------------------------------------- reading


def read_case_labels(case: Case, labels: Labels) -> LabelMap:
    """The labels of a case as one map (Z, Y, X) with the values of `labels`.

    They are in its map of objects, its label map, or its binary files.

    Raises ReadError for a file that cannot be read, DatasetError where the files lie on different grids or share
    voxels in a way that `labels` has no value for.
    """
    if case.instances is not None:
        return read_objects(case, labels)
    if case.labels is not None:
        return with_white_as_label(read_labels_on(case.labels, image_of(case)), labels)
    files = chosen_files(case, labels).label_files
    if not files:
        raise DatasetError("has no file of any label", where=case.id, remedy="Add its label files.")
    return _as_map(case, read_combined(files, image_of(case)), [name for name, _ in files], labels)


def read_reference(case: Case, labels: Labels) -> tuple[LabelMap, Labels]:
    """The labels of a case to score against, and `labels` with values for what its files share voxels of besides."""
    if case.instances is not None or case.labels is not None:
        return read_case_labels(case, labels), labels
    files = chosen_files(case, labels).label_files
    if not files:
        raise DatasetError("has no file of any label", where=case.id, remedy="Add its label files.")
    combined, names = read_combined(files, image_of(case)), [name for name, _ in files]
    occurring = {_drawn_part(combined.combinations[code]) for code in combined.occurring()}
    grown = with_combinations(labels, names, occurring)
    return _as_map(case, combined, names, grown), grown


def on_one_grid(mask: LabelMap, mask_file: Path, reference: LabelMap, case: Case) -> tuple[LabelMap, LabelMap]:
    """A mask and the reference of `case`, either on the grid of the other where its own file tells no voxel size."""
    if not tells_grid(mask_file):
        return on_grid(mask, reference.geometry), reference
    file = case.instances or case.labels or next((path for _, path in case.label_files), None)
    if not case.images and file is not None and not tells_grid(file):
        return mask, on_grid(reference, mask.geometry)
    return mask, reference


def _as_map(case: Case, combined: Combined, names: Collection[str], labels: Labels) -> LabelMap:
    declared = (*labels.values, labels.ignore or 0)
    table = np.zeros(len(combined.combinations), dtype=smallest_type(min(declared), max(declared)))
    for code in combined.occurring():
        one = combined.combinations[code]
        value = labels.ignore if IGNORE in one else value_of(one, names, labels)
        if value is None:
            count = int(np.count_nonzero(combined.codes == code))
            raise DatasetError(
                f"{count} voxels belong to {' and '.join(sorted(one))} at once, which no other case has",
                where=case.id,
                remedy="Read the dataset anew with `autoseg plan`, or correct the label files.",
            )
        table[code] = value
    return LabelMap(table[combined.codes], combined.geometry, combined.notes)
