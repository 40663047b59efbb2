"""A folder of masks: how each was made, which are to be made anew, and what the values in them mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from autoseg.dataset.colours import write_colour_table
from autoseg.dataset.instance_maps import INSTANCES
from autoseg.dataset.mask_writers import LIKE_IMAGE, MaskWriter, mask_path
from autoseg.dataset.nifti_maps import is_map
from autoseg.dataset.readers import files_of
from autoseg.errors import AutosegError, PredictionError
from autoseg.files import file_hash, read_record, text_hash, write_json, write_record
from autoseg.inference.chosen_labels import held_labels
from autoseg.inference.found_scene import OBJECTS, object_files
from autoseg.inference.maps import map_path, map_paths
from autoseg.inference.object_masks import OBJECT_MASKS
from autoseg.inference.writing import CaseOutcome
from autoseg.locks import HeldByAnother, locked
from autoseg.pipeline.mask_account import PREDICTIONS, MadeMask, enter
from autoseg.records import NO_MAPS, Case, CaseTrust, Labels, MapKinds, Receipt, Record

#: Where a folder of masks keeps what they were made with, and of the cases without a mask why.
RECEIPTS = "receipts.json"
FAILURES = "failures.json"

#: Held while a command writes there.
LOCK = "predicting.lock"

#: Where it says what the values in the masks mean, if that is not plain.
LABELS = "labels.json"

#: Names and colours of the values, as 3D Slicer reads them.
COLOURS = "labels.ctbl"


class Receipts(Record):
    """receipts.json: what the masks of a folder were made with, by a name that their entries give."""

    format: int = 1
    receipts: dict[str, Receipt]


@contextmanager
def held(masks: Path) -> Iterator[None]:
    """Keep other commands out of a folder of masks: two accounts of it would overwrite each other.

    Makes the folder if need be, and then removes it where nothing came into it.
    """
    new = not masks.exists()
    masks.mkdir(parents=True, exist_ok=True)
    try:
        with locked(masks / LOCK):
            yield
    except HeldByAnother as other:
        raise PredictionError(
            f"process {other.owner or 'another'} is writing masks here",
            where=masks,
            remedy="Wait for it to end, or name another folder.",
        ) from None
    finally:
        if new:
            with suppress(OSError):
                masks.rmdir()


def read_receipts(masks: Path) -> dict[str, Receipt]:
    """What the masks of the folder were made with, by name."""
    path = masks / RECEIPTS
    return dict(read_record(path, Receipts).receipts) if path.exists() else {}


def note_receipt(masks: Path, made: Mapping[str, MadeMask], receipt: Receipt) -> str:
    """Enter what a mask is about to be made with, where it is new; gives its name. Those of no mask are dropped."""
    name, known = text_hash(receipt.model_dump_json(), 16), read_receipts(masks)
    if name not in known:
        used = {entry.receipt for entry in made.values()}
        kept = {other: told for other, told in known.items() if other in used}
        write_record(masks / RECEIPTS, Receipts(receipts={**kept, name: receipt}))
    return name


def masks_to_make(
    cases: Sequence[Case],
    masks: Path,
    made: dict[str, MadeMask],
    wanted: dict[str, str],
    overwrite: bool,
    *,
    others: Sequence[dict[str, str]] = (),
    maps: MapKinds = NO_MAPS,
    counted: bool = False,
    writer: MaskWriter = LIKE_IMAGE,
) -> tuple[list[Case], list[str]]:
    """Cases to predict, and those whose mask is there already, made from the same input in the wanted way.

    `others` are ways that will do as well. A mask without the `maps` that are asked for is made again with them, and
    so is one without its objects where these are `counted`.
    Raises PredictionError before anything is done when a mask in the way was not written by autoseg, or was changed.
    """
    todo, skipped = [], []
    foreign: list[str] = []
    for case in cases:
        path = mask_path(case, masks, writer)
        known = made[case.id].maps if case.id in made else {}
        own_maps = map_paths(case.id, masks, maps)
        if not overwrite:
            strange = (file for file in own_maps.values() if file.exists() and not is_map(file))
            foreign.extend(file.relative_to(masks).as_posix() for file in strange)
        wanted_kinds = _kinds_of_objects(maps) if counted else ()
        own_objects, strange_objects = _objects_there(case, masks, known) if counted else (set(), [])
        if not overwrite:
            foreign.extend(file.relative_to(masks).as_posix() for file in strange_objects)
        if not path.exists() or overwrite:
            todo.append(case)
            continue
        before = made.get(case.id)
        own = file_hash(path, 16)
        if before is None or own not in (before.formats.get(path.name, before.mask), before.replaces):
            foreign.append(path.name)
        elif (
            before.mask == own
            and before.inputs == input_hash(case)
            and {"model": before.model, "options": before.options}
            in (
                wanted,
                *others,
            )
            and all(_is_ours(file, known.get(kind)) for kind, file in own_maps.items())
            and own_objects.issuperset(wanted_kinds)
        ):
            skipped.append(case.id)
        else:
            todo.append(case)
    if foreign:
        told = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise PredictionError(
            f"{told}: not written by autoseg, or changed since",
            where=masks,
            remedy="Choose another folder for the masks, or replace them with --overwrite.",
        )
    return todo, skipped


def note_mask(
    masks: Path,
    made: dict[str, MadeMask],
    way: Mapping[str, str],
    outcome: CaseOutcome,
    file: Path,
    trust: CaseTrust | None = None,
    receipt: str = "",
) -> None:
    """Enter a mask, which is complete as `file` and about to get its name, among those `made`, and write the account.

    Written before, the account holds for every mask that there is, whenever the program is killed.
    """
    case, mask, own = outcome.case, outcome.mask, file_hash(file, 16)
    formats = made[case.id].formats if case.id in made else {}
    entry = MadeMask(
        **way,
        inputs=input_hash(case),
        mask=own,
        replaces=file_hash(mask, 16) if mask is not None and mask.exists() else "",
        formats=formats if mask is None else {**formats, mask.name: own},
        maps={kind: file_hash(found, 16) for kind, found in outcome.maps.items()},
        receipt=receipt,
        trust=trust,
        cost=outcome.cost,
    )
    enter(masks, made, case.id, entry)


def _kinds_of_objects(maps: MapKinds) -> tuple[str, ...]:
    """The files of objects that are written beside a mask."""
    return (INSTANCES, OBJECTS, *((OBJECT_MASKS,) if maps.object_masks else ()))


def _objects_there(case: Case, masks: Path, known: Mapping[str, str]) -> tuple[set[str], list[Path]]:
    """Kinds of the files of a case's objects that are there as we wrote them, and strange files in their places."""
    ours, strange = set(), []
    for kind, files in object_files(case, masks).items():
        for file in files:
            if _is_ours(file, known.get(kind)):
                ours.add(kind)
            elif file.exists():
                strange.append(file)
    return ours, strange


def _is_ours(file: Path, known: str | None) -> bool:
    """Whether a file is there as it was written."""
    return known is not None and file.exists() and file_hash(file, 16) == known


def remove_old_maps(masks: Path, case: Case, before: MadeMask | None, maps: Mapping[str, Path]) -> None:
    """Remove the maps and objects of an earlier mask but for those that were made again, `maps` by kind.

    Those that were changed since stay. An instance map that is made again may have another ending than before.
    """
    of_objects = object_files(case, masks)
    for kind, known in ({} if before is None else before.maps).items():
        new = maps.get(kind)
        for file in of_objects.get(kind) or (map_path(case.id, masks, kind),):
            if (new is None or file.name != new.name) and _is_ours(file, known):
                file.unlink()


def input_hash(case: Case) -> str:
    """Hash over the bytes of all input files; empty for one that cannot be read (it will fail by name)."""
    try:
        gaps = "".join(f"-{channel}" for channel in case.missing)
        return text_hash("".join(file_hash(file) for path in case.images for file in files_of(path)) + gaps, 16)
    except (OSError, AutosegError):
        return ""


def tell_failures(masks: Path, failures: dict[str, str]) -> None:
    """Write failures.json (case to reason), or remove it where there is nothing to tell.

    A file of that name that is of another kind stays: it is not ours.
    """
    path = masks / FAILURES
    if read_failures(masks) is None:
        return
    if failures:
        masks.mkdir(parents=True, exist_ok=True)
        write_json(path, failures)
    else:
        path.unlink(missing_ok=True)


def read_failures(masks: Path) -> dict[str, str] | None:
    """Why cases have no mask, as failures.json tells; None where a file of that name is of another kind."""
    path = masks / FAILURES
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        return None
    ours = isinstance(told, dict) and all(isinstance(why, str) for why in told.values())
    return told if ours else None


def tell_labels(masks: Path, labels: Labels, chosen: Sequence[str] = (), *, colour_table: bool = True) -> None:
    """Names and values of the labels beside the masks, where values have gaps or a label has several of them.

    Of labels with things those are told that the masks have, whole objects.

    Where some were `chosen`, masks hold only those, and only those are told.
    With `colour_table` also a table of names and colours for viewers. Files of those names that we did not write stay.
    """
    labels = labels.without_cores
    if colour_table and (masks / PREDICTIONS).exists():
        write_colour_table(masks / COLOURS, held_labels(labels, chosen))
    plain = not chosen and not labels.has_regions and labels.values == tuple(range(len(labels.values)))
    path = masks / LABELS
    if plain or not (masks / PREDICTIONS).exists():
        return
    entries = {name: members for name, members in labels.foreground.items() if not chosen or name in chosen}
    values = {name: [labels.values[member] for member in members] for name, members in entries.items()}
    try:
        ours = not path.exists() or set(json.loads(path.read_text(encoding="utf-8"))) == {"format", "labels"}
    except (OSError, ValueError, TypeError):
        ours = False
    if ours:
        write_json(path, {"format": 1, "labels": {"background": [0], **values}})
