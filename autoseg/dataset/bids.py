"""BIDS datasets: images in sub-*/[ses-*/]anat, labels in derivatives/*/sub-*/… (BIDS 1.9, "Derivatives: imaging").

File names are lists of entities (sub-01_ses-2_acq-3d_T1w.nii.gz): the last word says what it is, the others which one.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from autoseg.dataset.listing import visible_folders
from autoseg.dataset.naming import data_files
from autoseg.dataset.patients import COMMON, Patients
from autoseg.dataset.readers import ending_of, stem_of
from autoseg.errors import DatasetError
from autoseg.records import Case, Labels

DERIVATIVES = "derivatives"

#: Folders of images that may be segmented; functional and diffusion series have a time axis.
DATA_TYPES = ("anat", "pet", "ct", "micr", "mp2rage", "perf")

#: Last words of label files: a map of several labels, and masks of one.
MAPS, MASKS = ("dseg",), ("mask", "seg")

#: Spaces in which labels lie on the grid of the image itself.
OWN_SPACES = ("orig", "individual", "native")

#: Entities that tell cases apart; the others tell kinds of images apart.
_CASE_ENTITIES = ("sub", "ses", "run")
_NO_KIND = (*_CASE_ENTITIES, "space", "desc", "label", "atlas", "seg", "hemi", "res")


@dataclass
class _Subject:
    """One session (and run) of a subject."""

    images: dict[str, Path] = field(default_factory=dict)  # kind -> file
    maps: list[Path] = field(default_factory=list)
    masks: list[tuple[str, Path]] = field(default_factory=list)


def find_bids(root: Path) -> Patients | None:
    """The cases of a BIDS dataset; None where there are no subjects with images, or no derivatives.

    Raises DatasetError where a case has several label maps, since which to learn is not ours to choose.
    """
    if not (root / DERIVATIVES).is_dir():
        return None
    subjects: dict[str, _Subject] = defaultdict(_Subject)
    for path in _files(root):
        subjects[_case_id(path)].images.setdefault(_kind(path), path)
    if not subjects:
        return None
    notes = _add_labels(root / DERIVATIVES, subjects)
    with_images = {name: one for name, one in sorted(subjects.items()) if one.images}
    labelled = {name: one for name, one in with_images.items() if one.maps or one.masks}
    if not labelled:
        raise DatasetError(
            "has no labels of its subjects",
            where=root / DERIVATIVES,
            remedy="They should be called sub-…_dseg.nii.gz, sub-…_label-NAME_mask.nii.gz or sub-…_mask.nii.gz.",
        )
    channels, rare = _channels(labelled)
    if rare:
        notes.append(f"left out, since fewer than half of the cases have them: {', '.join(rare)}")
    if len(labelled) < len(with_images):
        notes.append(f"{len(with_images) - len(labelled)} sessions without labels are left out")
    cases = tuple(_case(name, one, channels) for name, one in labelled.items())
    first = next((case.labels for case in cases if case.labels is not None), None)
    labels, told = (None, "") if first is None else _label_names(first, root)
    return Patients(channels, cases, (*notes, *([told] if told else [])), labels)


def _files(root: Path) -> Iterator[Path]:
    """Whole images or label maps in sub-*/[ses-*/]TYPE."""
    for subject in visible_folders(root):
        if not subject.name.startswith("sub-"):
            continue
        inside = visible_folders(subject)
        for place in (subject, *(folder for folder in inside if folder.name.startswith("ses-"))):
            for kind in DATA_TYPES:
                if (place / kind).is_dir():
                    yield from (path for path in data_files(place / kind) if path.name.startswith("sub-"))


def _entities(path: Path) -> tuple[dict[str, str], str]:
    """Entities of a file name, and its last word: sub-01_acq-3d_T1w gives {sub: 01, acq: 3d} and T1w."""
    *pairs, suffix = stem_of(path).split("_")
    return {key: value for key, _, value in (pair.partition("-") for pair in pairs)}, suffix


def _case_id(path: Path) -> str:
    entities, _ = _entities(path)
    return "_".join(f"{name}-{entities[name]}" for name in _CASE_ENTITIES if entities.get(name))


def _kind(path: Path) -> str:
    entities, suffix = _entities(path)
    return "_".join([*(f"{key}-{value}" for key, value in entities.items() if key not in _NO_KIND), suffix])


def _add_labels(derivatives: Path, subjects: dict[str, _Subject]) -> list[str]:
    """Put label files to their subjects; notes on those that cannot belong to an image."""
    elsewhere: Counter[str] = Counter()
    for pipeline in visible_folders(derivatives):
        for path in _files(pipeline):
            entities, suffix = _entities(path)
            if suffix not in (*MAPS, *MASKS):
                continue
            subject = _subject_of(path, subjects)
            space = entities.get("space", "")
            if subject is None:
                elsewhere["of no image"] += 1
            elif space and space not in OWN_SPACES and space not in {kind.split("_")[-1] for kind in subject.images}:
                elsewhere[f"in the space {space}"] += 1
            elif suffix in MAPS or not (entities.get("label") or entities.get("desc")):
                subject.maps.append(path)
            else:
                subject.masks.append((entities.get("label") or entities["desc"], path))
    return [f"{count} label files {told} are left out" for told, count in elsewhere.items()]


def _subject_of(path: Path, subjects: dict[str, _Subject]) -> _Subject | None:
    """The session that a label file belongs to, also where only the image's name tells the run."""
    case_id = _case_id(path)
    if case_id in subjects:
        return subjects[case_id]
    runs = [one for name, one in subjects.items() if re.sub(r"_run-\w+$", "", name) == case_id]
    return runs[0] if len(runs) == 1 else None


def _channels(subjects: dict[str, _Subject]) -> tuple[tuple[str, ...], list[str]]:
    counts = Counter(kind for one in subjects.values() for kind in one.images)
    common = tuple(sorted(kind for kind, count in counts.items() if count >= COMMON * len(subjects)))
    if not common:
        raise DatasetError(
            "the subjects' images have no kind in common",
            where=next(iter(next(iter(subjects.values())).images.values())).parents[2],
            remedy="Name them alike, as in sub-01_T1w.nii.gz, or list them in a dataset.json.",
        )
    return common, sorted(counts.keys() - set(common))


def _case(name: str, subject: _Subject, channels: tuple[str, ...]) -> Case:
    """The case. Raises DatasetError where its labels come in several ways."""
    ways = [*subject.maps, *(path for _, path in subject.masks[:1])]
    twice = [label for label, count in Counter(label for label, _ in subject.masks).items() if count > 1]
    if len(ways) > 1 or twice:
        several = [path for label, path in subject.masks if label in twice] or ways
        told = ", ".join(f"{path.parents[1].name}/…/{path.name}" for path in several)
        raise DatasetError(
            f"has its labels in several ways: {told}",
            where=name,
            remedy="Keep one in derivatives/, or describe the cases in a dataset.json.",
        )
    known = next(iter(subject.images.values()))
    images = tuple(
        subject.images.get(kind) or known.with_name(f"{name}_{kind}{ending_of(known.name)}") for kind in channels
    )
    labels = subject.maps[0] if subject.maps else None
    return Case(id=name, images=images, labels=labels, label_files=tuple(sorted(subject.masks)))


# ------------------------------------------------------------------------------------------------------ label names


def _label_names(labels: Path, root: Path) -> tuple[Labels | None, str]:
    """Names from the table that goes with a label map, and a note on where they are from."""
    table = _table_of(labels, root)
    if table is None:
        return None, ""
    names: dict[str, int | tuple[int, ...]] = {"background": 0}
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                value, name = int(row["index"]), str(row["name"]).strip()
                if value != 0 and (not name or name in names):
                    raise DatasetError(f"names {name!r} twice, or a label not at all", where=table)
                if value != 0:
                    names[name] = value
        return Labels(names=names), f"labels are named in {table.relative_to(root).as_posix()}"
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DatasetError(what, where=table, remedy="Correct the column index.") from None
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"is no table of labels ({type(error).__name__})",
            where=table,
            remedy="It needs the columns index and name, with tabs between.",
        ) from error


def _table_of(labels: Path, root: Path) -> Path | None:
    """A .tsv beside the label map, or the nearest …dseg.tsv above it."""
    beside = labels.with_name(f"{stem_of(labels)}.tsv")
    if beside.is_file():
        return beside
    wanted, _ = _entities(labels)
    for folder in labels.parents:
        if folder == root.parent:
            return None
        tables = [path for path in sorted(folder.glob("*dseg.tsv")) if _fits(path, wanted)]
        if tables:
            return max(tables, key=lambda path: len(_entities(path)[0]))  # the one that says most
    return None


def _fits(table: Path, wanted: dict[str, str]) -> bool:
    """Whether a table is for files with these entities (BIDS's inheritance: all of its own are among them)."""
    return _entities(table)[0].items() <= wanted.items()
