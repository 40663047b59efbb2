"""What to predict: a file, a folder, or a list of files, made into cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from autoseg.dataset.dicom_inputs import dicom_inputs
from autoseg.dataset.listing import visible_files, visible_folders
from autoseg.dataset.naming import CHANNEL_NUMBER, data_files, group_images, image_entries, is_label_name, safe_id
from autoseg.dataset.patients import kind_of
from autoseg.dataset.readers import ending_of, is_part_of_image, read_geometry, stem_of
from autoseg.errors import AutosegError, DatasetError, ReadError
from autoseg.records import Case, Geometry, Problem
from autoseg.words import counted

LISTS = (".csv", ".json")

#: What to do about a missing channel.
_ADD = "Add the missing file; only a model that was trained with --channel-dropout does without."


def find_inputs(
    images: Path, channels: int, channel_names: Sequence[str] = (), *, may_lack: bool = False
) -> tuple[list[Case], list[Problem]]:
    """Cases to predict with a model of so many channels, and what kept others out.

    `images` is an image file, a folder (of images with or without channel numbers, of one folder per patient, or with
    DICOM series in it or below it), or a `.csv` or `.json` list of case, channel and path (a channel is a number or one
    of `channel_names`; paths are relative to the list). Cases that lack a channel, repeat an id or cannot be read
    become problems; with `may_lack` a case needs one channel only, and a note tells which are missing.
    Only headers are read. Raises DatasetError where there is nothing to predict at all.
    """
    require_inputs(images)
    names = tuple(channel_names) or tuple(str(number) for number in range(channels))
    problems: list[Problem] = []
    if images.is_dir():
        found = _from_folder(images, channels, names, problems)
        if not found:
            found = dicom_inputs(images, problems)
    elif images.suffix.lower() in LISTS:
        found = _from_list(images, names)
    elif is_part_of_image(images):
        found = [(safe_id(stem_of(images), images), (images,))]
    elif ending_of(images.name) is not None:
        found = list(group_images([images], 1).cases)
    else:
        raise DatasetError(
            "has an ending that no reader knows", where=images, remedy="Give a NIfTI, DICOM or picture file."
        )
    if not found:
        raise DatasetError("holds no image", where=images, remedy="Give a folder with image files.")
    explicit = images.suffix.lower() in LISTS and not images.is_dir()
    return _usable(found, channels, names, problems, may_lack, explicit), problems


def require_inputs(images: Path) -> None:
    """Raise DatasetError where there is nothing of that name, with the nearest name that there is."""
    if images.exists():
        return
    beside = [path.name for path in images.parent.iterdir()] if images.parent.is_dir() else []
    near = get_close_matches(images.name, beside, n=1)
    meant = f"Did you mean {images.parent / near[0]}? " if near else ""
    raise DatasetError("does not exist", where=images, remedy=f"{meant}Give an image, a folder of images, or a list.")


def named_images(images: Path, names: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Images by case id where no model tells how many channels they have; of some only the first channel.

    `images` is what `find_inputs` takes. `names` are of masks: they tell whether a last number is that of a channel.
    """
    if images.is_file() and images.suffix.lower() in LISTS:
        rows = [(str(row.get("case") or ""), row.get("path")) for row in _rows(images)]
        return {case: (images.parent / str(path),) for case, path in reversed(rows) if case and path}
    if is_part_of_image(images):
        return {stem_of(images): (images,)}
    if images.is_file():
        return dict(group_images([images], 1).cases)
    if data_files(images):
        return dict(group_images(image_entries(images), None, names).cases)
    found: dict[str, tuple[Path, ...]] = {}
    for patient in visible_folders(images):
        files = [path for path in data_files(patient) if not is_label_name(kind_of(path, patient.name))]
        if files:
            found[patient.name] = (files[0],)
    return found or dict(dicom_inputs(images, []))


def _from_folder(
    folder: Path, channels: int, names: tuple[str, ...], problems: list[Problem]
) -> list[tuple[str, tuple[Path, ...]]]:
    files = image_entries(folder) if data_files(folder) or channels > 1 else []
    if files:
        known = set(files)
        for path in visible_files(folder):
            if path not in known and path.suffix.lower() not in (*LISTS, ".txt", ".md"):
                what = "no reader knows this ending; the file is skipped"
                problems.append(_problem("note", "unknown-file", what, "Nothing to do if it is no image.", None, path))
        grouping = group_images(files, channels)
        if grouping.note is not None and grouping.numbers_in_names:
            remedy = "Nothing to do if that is right."
            problems.append(_problem("note", "file-names", grouping.note, remedy, None, folder))
        return list(grouping.cases)
    cases = []
    for patient in visible_folders(folder):
        images = image_entries(patient) if channels > 1 else data_files(patient)
        kinds = {kind_of(path, patient.name).lower(): path for path in images}
        chosen = [kinds.get(name.lower()) for name in names]
        if kinds:
            ending = ending_of(next(iter(kinds.values())).name) or ""
            paths = (
                path or patient / f"{patient.name}-{name}{ending}" for path, name in zip(chosen, names, strict=True)
            )
            cases.append((safe_id(patient.name, patient), tuple(paths)))
    return cases


def _from_list(path: Path, names: tuple[str, ...]) -> list[tuple[str, tuple[Path, ...]]]:
    """Cases of a list file, in order of first mention; a missing channel gets no path."""
    chosen: dict[str, dict[int, Path]] = {}
    for number, row in enumerate(_rows(path), start=1):
        case_id = safe_id(str(row.get("case") or ""), path)
        file = row.get("path")
        if not isinstance(file, str) or not file.strip():
            raise DatasetError(f"entry {number} has no path", where=path, remedy="Each needs case, channel and path.")
        channel = _channel(row.get("channel", 0), names, number, path)
        if channel in chosen.setdefault(case_id, {}):
            raise DatasetError(f"entry {number}: channel {channel} of {case_id} is given twice", where=path)
        chosen[case_id][channel] = path.parent / file.strip()
    cases: list[tuple[str, tuple[Path, ...]]] = []
    for case_id, by_channel in chosen.items():
        if set(by_channel) == {0}:
            cases.append((case_id, (by_channel[0],)))
        else:
            missing = path.parent / "(not in the list)"
            cases.append((case_id, tuple(by_channel.get(number, missing) for number in range(len(names)))))
    return cases


def _rows(path: Path) -> list[dict[str, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows: object = [dict(row) for row in csv.DictReader(text.splitlines())]
        else:
            rows = json.loads(text)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DatasetError(f"cannot be read as a list ({error})", where=path) from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DatasetError("is not a list of entries", where=path, remedy="Each entry needs case, channel and path.")
    return rows


def _channel(value: object, names: tuple[str, ...], number: int, path: Path) -> int:
    text = str(value if value is not None else 0).strip() or "0"
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    known = ", ".join(f"{index} or {name}" if str(index) != name else name for index, name in enumerate(names))
    raise DatasetError(f"entry {number}: {text!r} is not a channel", where=path, remedy=f"Channels are {known}.")


def _usable(
    found: list[tuple[str, tuple[Path, ...]]],
    channels: int,
    names: tuple[str, ...],
    problems: list[Problem],
    may_lack: bool,
    explicit: bool,
) -> list[Case]:
    cases: dict[str, Case] = {}
    seen: dict[str, Path] = {}
    for case_id, paths in found:
        fault = _fault(case_id, paths, channels, names)
        missing = _lacking(paths, channels, explicit) if may_lack and fault is not None else ()
        if missing:
            told = ", ".join(names[number] for number in missing)
            what = f"has no {told}; the model has learned to do without, and sees zeros"
            present = tuple(path for path in paths if path.exists())
            problems.append(_problem("note", "missing-channel", what, "Add it if it exists.", case_id, present[0]))
            paths, fault = present, None
        if fault is None and case_id in seen:
            what = f"several files make the same case: {seen[case_id]} and {paths[0]}"
            fault = _problem("error", "duplicated-id", what, "Rename or remove all but one.", case_id, paths[0])
            cases.pop(case_id, None)
        seen.setdefault(case_id, paths[0])
        if fault is None:
            cases[case_id] = Case(id=case_id, images=paths, missing=missing)
        else:
            problems.append(fault)
    return list(cases.values())


def _lacking(paths: tuple[Path, ...], channels: int, explicit: bool) -> tuple[int, ...]:
    """The channels without a file, of a case that has others; none where it cannot be told which they are.

    A single image of one channel is the one whose number is at the end of its name; in a list, which is `explicit`, it
    is the first.
    """
    there = [path.exists() for path in paths]
    try:
        if len(paths) == channels and any(there):
            one_each = all(read_geometry(path)[1] == 1 for path, present in zip(paths, there, strict=True) if present)
            return tuple(number for number, present in enumerate(there) if not present) if one_each else ()
        if len(paths) == 1 and all(there) and read_geometry(paths[0])[1] == 1:
            number = CHANNEL_NUMBER.match(stem_of(paths[0]))
            own = 0 if explicit else int(number[2]) if number else channels
            return tuple(channel for channel in range(channels) if channel != own) if own < channels else ()
    except ReadError:
        return ()  # its fault stands
    return ()


def grids_of(cases: Iterable[Case]) -> dict[str, Geometry]:
    """The grid of each case by id, from the header of its first image; without those that cannot be read.

    Of a DICOM series every file is opened for it.
    """
    found = {}
    for case in cases:
        with suppress(AutosegError):  # it will fail by name
            found[case.id] = read_geometry(case.images[0])[0]
    return found


def _fault(case_id: str, paths: tuple[Path, ...], channels: int, names: tuple[str, ...]) -> Problem | None:
    needs = f"the model needs {', '.join(names)}"
    present = [path.exists() for path in paths]
    if not all(present):
        if len(paths) == 1:
            return _problem("error", "missing-image", "does not exist", "Correct its path.", case_id, paths[0])
        has = [name for name, there in zip(names, present, strict=False) if there]
        lacks = [name for name, there in zip(names, present, strict=False) if not there]
        what = f"{needs}; this case has only {', '.join(has) or 'none of them'}, and lacks {', '.join(lacks)}"
        missing = paths[present.index(False)]
        return _problem("error", "missing-channel", what, _ADD, case_id, missing)
    try:
        count = len(paths) if len(paths) > 1 else read_geometry(paths[0])[1]
    except ReadError as error:
        remedy = error.remedy or "Check the file."
        return _problem("error", "unreadable", error.what, remedy, case_id, paths[0])
    if count != channels:
        what = f"{needs}; this case has {counted(count, 'channel')}"
        remedy = "Give all channels: files ending in _0000, _0001, …, or a list with case, channel and path."
        return _problem(
            "error", "missing-channel" if count < channels else "channel-count", what, remedy, case_id, paths[0]
        )
    return None


def _problem(severity: str, kind: str, what: str, remedy: str, case: str | None, file: Path) -> Problem:
    return Problem.model_validate(
        {"severity": severity, "kind": kind, "what": what, "remedy": remedy, "case": case, "file": file}
    )
