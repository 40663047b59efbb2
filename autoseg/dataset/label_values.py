"""Which labels a dataset has when nobody declared them: read from the label files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from autoseg.dataset.readers import read_labels
from autoseg.dataset.voxels import smallest_type, whole_values
from autoseg.errors import DatasetError, ReadError
from autoseg.machine import available_cores
from autoseg.records import LabelMap, Labels

#: What pictures of one label have where it is: white.
WHITE = 255

#: What to do where nothing tells the labels of a dataset.
DECLARE = 'Put a dataset.json with "labels" into it, or check the label files.'

#: More distinct values than any anatomical atlas has: such a file is an image, or instance numbers.
MOST_VALUES = 300


def labels_from_files(paths: Sequence[Path], root: Path, remedy: str = DECLARE) -> tuple[Labels, tuple[str, ...]]:
    """Labels named label_<value> for all values that occur, 0 being the background, and notes for the user.

    Files that cannot be read, hold fractions or look like images are left out; whoever uses them reports them.
    Raises DatasetError, with the `remedy`, where nothing remains.
    """
    # threads: most of the time goes to decompression, which releases the interpreter's lock
    with ThreadPoolExecutor(max_workers=min(8, available_cores())) as pool:
        found = list(pool.map(values_in, paths))
    values = sorted({value for values in found if values is not None for value in values} - {0})
    if not values and None in found:
        raise DatasetError(
            f"its labels are not declared, and {found.count(None)} of {len(found)} label files could not be used to "
            f"find them: they cannot be read, hold fractions, or more than {MOST_VALUES} values",
            where=root,
            remedy=remedy,
        )
    if not values:
        raise DatasetError(
            "no label value above 0 was found in its label files, and nothing declares any",
            where=root,
            remedy=remedy,
        )
    labels = numbered_labels(values, root)
    left_out = sum(values is None for values in found)
    notes = [f"labels are not declared; the files hold the values {', '.join(str(value) for value in [0, *values])}"]
    if left_out:
        notes.append(f"{left_out} label files could not be used to find the label values")
    return labels, tuple(notes)


def numbered_labels(values: Iterable[int], where: Path) -> Labels:
    """Labels called label_<value> of values in label files, 0 being the background. Raises DatasetError."""
    names = {f"label_{value}": value for value in sorted({*values} - {0})}
    try:
        return Labels(names={"background": 0, **names})
    except ValidationError as error:
        raise DatasetError(
            error.errors()[0]["msg"].removeprefix("Value error, "),
            where=where,
            remedy="Check that these are label files, not images.",
        ) from None


def with_white_as_label(label_map: LabelMap, labels: Labels) -> LabelMap:
    """The labels with 255 as the one label that is declared, where that is all that the file holds, told in `white`."""
    found = label_map.labels
    declared = [value for value in labels.values if value != 0]
    if len(declared) != 1 or WHITE in (*declared, labels.ignore) or found.dtype.kind not in "iu":
        return label_map
    if found.max(initial=0) != WHITE or set(whole_values(found)) - {0, WHITE}:
        return label_map
    name = next(iter(labels.foreground))
    return LabelMap(
        (found == WHITE).astype(smallest_type(0, declared[0])) * declared[0],
        label_map.geometry,
        label_map.notes,
        white=f"its value {WHITE} is taken as label {declared[0]} ({name})",
    )


def values_in(path: Path) -> tuple[int, ...] | None:
    """The values of one label file; None where it cannot be read or is no label map."""
    try:
        labels = read_labels(path).labels
    except ReadError:
        return None
    if labels.dtype.kind == "f":
        return None
    values = tuple(whole_values(labels))
    return None if values[0] < 0 or len(values) > MOST_VALUES else values
