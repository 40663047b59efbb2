"""Which reference and which image go with a mask, by their names: the rule by which datasets pair images and labels.

Names are equal, or equal after a last word such as `_seg` or `-mask` (`naming.pair_labels`), on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.dataset.inputs import named_images
from autoseg.dataset.label_files import class_files
from autoseg.dataset.listing import visible_folders
from autoseg.dataset.naming import data_files, pair_labels
from autoseg.dataset.readers import ending_of, stem_of
from autoseg.errors import UsageError
from autoseg.records import Case

#: A mask, and the case of its reference.
Pair = tuple[Path, Case]


def pair_up(masks: Path, references: Path) -> tuple[list[Pair], dict[str, str]]:
    """(mask, reference) by their names, and why others have no partner; one file each is always a pair.

    A case is called as whichever of the two has no last word. Raises UsageError where one of the places is not there,
    or where several files would be the partner of one.
    """
    for path in (masks, references):
        if not path.exists():
            raise UsageError("does not exist", where=path, remedy="Name a mask, or a folder of masks.")
    alone = stem_of(masks)
    if masks.is_file() and references.is_file():
        return [(masks, Case(id=alone, images=(), labels=references))], {}
    if masks.is_file() and references.name == alone:
        return [(masks, Case(id=alone, images=(), label_files=class_files(references)))], {}
    found, maps = {stem_of(file): file for file in _files(masks)}, _files(references)
    cases = _of_maps(found, maps) if maps else _of_folders(found, references)
    pairs = [(found[name], case) for name, case in cases.items()]
    used = {path for case in cases.values() for path in case.label_paths}
    failures = dict.fromkeys(sorted(found.keys() - cases.keys()), "has no reference")
    if masks.is_dir():
        failures |= {name: "has no mask" for name, path in _wanted(references).items() if not used & set(path)}
    return sorted(pairs, key=lambda pair: pair[1].id), failures


def _files(path: Path) -> list[Path]:
    return data_files(path) if path.is_dir() else [path]


def _wanted(references: Path) -> dict[str, tuple[Path, ...]]:
    """All references by name, each with its files: label maps, or where there are none folders of a file per label."""
    maps = _files(references)
    if maps or not references.is_dir():
        return {stem_of(file): (file,) for file in maps}
    folders = {folder.name: class_files(folder) for folder in visible_folders(references)}
    return {name: tuple(path for _, path in files) for name, files in folders.items() if files}


def _of_maps(found: dict[str, Path], maps: Sequence[Path]) -> dict[str, Case]:
    """The cases of label maps by the name of their mask."""
    cases: dict[str, Case] = {}
    for name, files in pair_labels(found, maps).items():
        cases[name] = Case(id=name, images=(), labels=_only(files, found[name], "mask", "references"))
    used = {case.labels for case in cases.values()}
    others = {stem_of(file): file for file in maps if file not in used}
    masks = [file for name, file in found.items() if name not in cases]
    for name, files in pair_labels(others, masks).items():  # the mask has the last word
        mask = _only(files, others[name], "reference", "masks")
        cases[stem_of(mask)] = Case(id=name, images=(), labels=others[name])
    return cases


def _only(files: Sequence[Path], partner: Path, what: str, others: str) -> Path:
    if len(files) > 1:
        raise UsageError(
            f"several {others} go with the {what} {partner.name}: {', '.join(file.name for file in files)}",
            where=files[0].parent,
            remedy="Remove or rename all but one, or name two files: `autoseg evaluate MASK REFERENCE`.",
        )
    return files[0]


def _of_folders(found: dict[str, Path], references: Path) -> dict[str, Case]:
    """The cases of folders that hold one file per label, by the name of their mask."""
    folders = visible_folders(references) if references.is_dir() else []
    files = {folder.name: class_files(folder) for folder in folders if folder.name in found}
    return {name: Case(id=name, images=(), label_files=known) for name, known in files.items() if known}


def nothing_paired(masks: Path, references: Path) -> UsageError:
    """The error that no mask has a reference, with a name of either side and what to rename."""
    mask = next(iter(_files(masks)), None)
    if mask is None:
        return UsageError("holds no mask", where=masks, remedy="Name a folder that holds masks, or one mask.")
    reference = next((path for paths in _wanted(references).values() for path in paths), None)
    if reference is None:
        return UsageError("holds no label map", where=references, remedy="Name a folder that holds references.")
    name, ending = stem_of(mask), ending_of(reference.name) or ""
    return UsageError(
        f"no mask has a reference of its name: a mask is called {mask.name}, a reference {reference.name}",
        where=masks,
        remedy=f"Name the references in {references} like the masks, here {name}{ending} or {name}_seg{ending}; of one "
        "file each names do not matter: `autoseg evaluate MASK REFERENCE`.",
    )


def images_for(place: Path, pairs: Sequence[Pair]) -> dict[str, tuple[Path, ...]]:
    """The images of cases, by id, of an image, a folder or a list as `predict` is given it.

    Raises UsageError where there is no such place, or nothing in it goes with any mask.
    """
    if not place.exists():
        raise UsageError("does not exist", where=place, remedy="Name the image, or the folder of the images.")
    masks = [mask for mask, _ in pairs]
    found = named_images(place, [*(case.id for _, case in pairs), *map(stem_of, masks)])
    if place.is_file() and len(found) == len(pairs) == 1:
        return {pairs[0][1].id: next(iter(found.values()))}
    by_mask = {mask: name for name, files in pair_labels(found, masks).items() for mask in files}
    names = {case.id: case.id if case.id in found else by_mask.get(mask) for mask, case in pairs}
    images = {case: found[name] for case, name in names.items() if name is not None}
    if not images:
        first = next(iter(found.values()), None)
        told = "" if first is None else f": an image is called {first[0].name}, a mask {masks[0].name}"
        raise UsageError(
            f"holds no image of a mask{told}", where=place, remedy="Name the folder that the masks were made from."
        )
    return images
