"""The dataset of a folder, put together from what its layout found: channels, labels, and what was drawn where."""

from __future__ import annotations

from pathlib import Path

from autoseg.arrays.labels import region_round_trip
from autoseg.dataset.annotated import read_annotated, with_annotated
from autoseg.dataset.counted import CountedDataset, counted_dataset, has_objects, without_objects
from autoseg.dataset.declaration import FILE_NAME, Declaration
from autoseg.dataset.label_files import chosen_files, file_names, labels_of_files, with_drawn
from autoseg.dataset.label_values import labels_from_files
from autoseg.dataset.readers import ending_of, read_geometry
from autoseg.errors import DatasetError, ReadError
from autoseg.records import Case, Dataset, Labels


def assemble(
    layout: str,
    root: Path,
    declaration: Declaration,
    cases: tuple[Case, ...],
    test: tuple[Case, ...],
    notes: tuple[str, ...],
) -> Dataset:
    """The dataset; labels that nobody declared are read from the files. Raises DatasetError."""
    if not cases:
        raise DatasetError("holds no training image", where=root, remedy="Are the images elsewhere?")
    channels, channel_notes = _channel_names(declaration, cases)
    counted = _objects(declaration, cases, test, root)
    if counted is None:
        cases, test = without_objects(cases), without_objects(test)
        labels, label_notes = _label_table(declaration, cases, root)
    else:
        labels, cases, test, label_notes = counted.labels, counted.cases, counted.test, counted.notes
    _check_round_trip(labels, root)
    cases, test = _annotated_cases(root, declaration, labels, cases, test)
    declared = declaration.cases_declared
    if declared is not None and declared != len(cases):
        label_notes += (f"dataset.json declares {declared} training cases, {len(cases)} were found",)
    return Dataset(
        name=declaration.name or root.name,
        root=root,
        layout=layout,
        channels=channels,
        labels=labels,
        cases=cases,
        test_cases=test,
        file_ending=declaration.file_ending or ending_of(cases[0].images[0].name) or "",
        notes=(*declaration.notes, *notes, *channel_notes, *label_notes),
    )


def _channel_names(declaration: Declaration, cases: tuple[Case, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Declared names, or numbered ones for as many channels as the first readable case has."""
    if declaration.channels:
        return declaration.channels, ()
    count = len(cases[0].images)
    if count == 1:
        count = _count_channels(cases)
    names = tuple(f"channel_{number}" for number in range(count))
    return names, (f"channel names are not declared: {', '.join(names)}",)


def _count_channels(cases: tuple[Case, ...]) -> int:
    for case in cases:
        try:
            return read_geometry(case.images[0])[1]
        except ReadError:
            continue  # the check of the cases reports it
    return 1


def _objects(
    declaration: Declaration, cases: tuple[Case, ...], test: tuple[Case, ...], root: Path
) -> CountedDataset | None:
    """The dataset with its objects, or None where they are not counted."""
    if not has_objects(declaration.instances, cases):
        return None
    declared = declaration.labels
    named = declaration.instances is True or isinstance(declaration.instances, tuple)
    if declared is None and named and any(case.instances is not None for case in cases):
        maps = [case.labels for case in cases if case.labels is not None]
        declared = labels_from_files(maps, root)[0] if maps else None
    return counted_dataset(declaration.instances, declared, cases, test, root)


def _label_table(declaration: Declaration, cases: tuple[Case, ...], root: Path) -> tuple[Labels, tuple[str, ...]]:
    by_files = [case for case in cases if case.label_files]
    by_map = [case for case in cases if case.labels is not None]
    if by_files and by_map:
        raise DatasetError(
            f"case {by_map[0].id} has a label map, case {by_files[0].id} one file per label",
            where=root,
            remedy="Give all cases their labels in one way.",
        )
    if by_files:
        return labels_of_files(by_files, declaration.labels, root)
    if declaration.labels is not None:
        return declaration.labels, ()
    return labels_from_files([case.labels for case in by_map if case.labels is not None], root)


def _check_round_trip(labels: Labels, root: Path) -> None:
    """Refuse labels of which a perfect prediction would not give the training labels back."""
    faults = region_round_trip(labels)
    if not faults:
        return
    by_order = labels.regions_class_order is not None
    raise DatasetError(
        f"field {'regions_class_order' if by_order else 'labels'}: a mask could not tell these values of the label "
        f"files apart: {'; '.join(faults)}",
        where=root / FILE_NAME,
        remedy="Give each value a region of its own at its place in the order, or leave regions_class_order out."
        if by_order
        else "Declare a label for each value, so that no two values are in the same regions.",
    )


def _annotated_cases(
    root: Path, declaration: Declaration, labels: Labels, cases: tuple[Case, ...], test: tuple[Case, ...]
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The cases with what was drawn in each: by their label files, or as the user says."""
    names = file_names(cases)
    if names:
        cases = tuple(with_drawn(chosen_files(case, labels), labels, names) for case in cases)
        test = tuple(with_drawn(chosen_files(case, labels), labels, names) for case in test)
    table = read_annotated(root, declaration.annotated)
    return (cases, test) if table is None else with_annotated(cases, test, labels, table, root)
