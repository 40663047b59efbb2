"""Which cases train and which validate: nnU-Net's folds, unless patients, labels or a person ask for others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from autoseg.dataset.balanced_folds import CaseTraits, Unit, labels_lacking, make_balanced_folds
from autoseg.dataset.folds import SEED, make_folds
from autoseg.dataset.groups import PatientGroups, patient_groups
from autoseg.dataset.leaks import listed, parted, same_images
from autoseg.dataset.split_files import read_fixed_folds
from autoseg.errors import UsageError
from autoseg.pipeline.receipts import short_hash
from autoseg.records import CaseFingerprint, Dataset, Fingerprint, Fold

#: nnU-Net's number of folds.
FOLDS = 5

_SHOWN = 3

#: Orders in which units are dealt out, until every training part has every label: the first nearly always does.
_ATTEMPTS = 8


@dataclass(frozen=True)
class SplitOptions:
    """What a person asked for."""

    folds: int | None = None  # None: five
    stratify: bool = False
    groups: bool = True  # keep a patient's cases together
    splits: Path | None = None  # a fixed list

    def told(self) -> dict[str, JsonValue]:
        """The options as a receipt tells them; of the list its hash."""
        fixed = None if self.splits is None else short_hash(self.splits)
        return {"folds": self.folds, "stratify": self.stratify, "groups": self.groups, "splits": fixed}


@dataclass(frozen=True)
class PlannedSplits:
    """Folds, and what is to be told about them."""

    folds: tuple[Fold, ...]
    notes: tuple[str, ...]


def planned_splits(
    dataset: Dataset, fingerprint: Fingerprint, asked: SplitOptions, left_out: Collection[str] = ()
) -> PlannedSplits:
    """The folds of a dataset's cases; nnU-Net's to the letter, without any note, where nothing speaks against them.

    They are others where a person gives or asks for them, where several cases are of one patient or have the same
    image (these stay in one part), and where a label would be missing in the training part of a fold.

    Args:
        dataset: its usable cases.
        fingerprint: their labels and contents.
        asked: options of the command.
        left_out: cases of the dataset that cannot be used; a fixed list may name them.

    Raises:
        UsageError: options that exclude each other, or more folds than patients.
        DatasetError: no case, or a declaration of patients or splits that makes no sense.
    """
    _require_sensible(asked)
    ids = sorted(case.id for case in dataset.cases)
    if len(ids) == 1 and asked.splits is None and asked.folds is None:
        return PlannedSplits((Fold(train=tuple(ids), val=()),), ("a single case: nothing can be held out to score",))
    groups = patient_groups(dataset.root, ids) if asked.groups else None
    images = same_images(fingerprint.cases)
    if asked.splits is not None:
        folds, notes = read_fixed_folds(asked.splits, ids, left_out)
        notes = (f"splits of {asked.splits.name}: {len(folds)} folds", *notes)
        return PlannedSplits(folds, (*notes, *_parted_notes(folds, groups, images)))
    units = _units(ids, groups, images)
    if len(units) < 2 <= len(ids):
        folds = make_folds(ids, asked.folds or FOLDS)
        return PlannedSplits(folds, (*_group_notes(groups), *_parted_notes(folds, groups, images)))
    notes = (*_group_notes(groups), *_image_notes(images))
    count = _count(asked, len(units))
    if count != FOLDS and len(units) > 1:
        whose = "patients" if len(units) < len(ids) else "cases"
        notes += (f"{count} folds: " + ("as asked" if asked.folds else f"there are only {len(units)} {whose}"),)
    folds, stratified = _drawn(units, ids, fingerprint, count, asked.stratify)
    return PlannedSplits(folds, (*notes, *stratified))


def _require_sensible(asked: SplitOptions) -> None:
    if asked.splits is not None and (asked.folds is not None or asked.stratify):
        raise UsageError("--splits gives the folds; --folds and --stratify would make others", remedy="Choose one.")
    if asked.folds is not None and asked.folds < 2:
        raise UsageError(f"{asked.folds} folds leave nothing to validate with", remedy="Ask for two or more.")


def _count(asked: SplitOptions, units: int) -> int:
    if asked.folds is not None and asked.folds > units:
        raise UsageError(
            f"{asked.folds} folds need as many patients, and there are {units}", remedy=f"Ask for at most {units}."
        )
    return min(asked.folds or FOLDS, units)


def _drawn(
    units: Sequence[Unit], ids: Sequence[str], fingerprint: Fingerprint, count: int, stratify: bool
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Folds of the units, and notes on how labels decided."""
    traits = {case.case: _traits(case) for case in fingerprint.cases}
    alone = all(len(unit) == 1 for unit in units)
    folds = make_folds(ids, count) if alone else make_balanced_folds(units, count)
    lacking = labels_lacking(folds, units, traits)
    if not stratify and not lacking:
        return folds, ()
    tried = [make_balanced_folds(units, count, traits, seed=SEED + attempt) for attempt in range(_ATTEMPTS)]
    folds = min(tried, key=lambda made: len(labels_lacking(made, units, traits)))  # the first of the best
    note = "folds are stratified by the labels of the cases and the volume of their foreground"
    if lacking and not stratify:
        number, labels = next(iter(lacking.items()))
        note += f": drawn at random, fold {number} would train without {listed(labels)}"
    still = labels_lacking(folds, units, traits)
    warnings = (f"WARNING: fold {number} trains without {listed(labels)}" for number, labels in still.items())
    return folds, (note, *warnings)


def _traits(case: CaseFingerprint) -> CaseTraits:
    voxels = {name: count for name, count in case.voxels_per_label.items() if name != "background" and count > 0}
    return CaseTraits(frozenset(voxels), sum(voxels.values()) * case.voxel_ml)


def _units(ids: Sequence[str], groups: PatientGroups | None, images: Sequence[tuple[str, ...]]) -> list[Unit]:
    """The cases by what must stay in one part: patients, joined where they share an image."""
    unit_of: dict[str, set[str]] = {case_id: {case_id} for case_id in ids}
    together = [*(() if groups is None else groups.shared.values()), *images]
    for group in together:
        members = [case_id for case_id in group if case_id in unit_of]
        joined = set().union(*(unit_of[case_id] for case_id in members))
        for case_id in joined:
            unit_of[case_id] = joined
    units: dict[str, Unit] = {min(unit): tuple(sorted(unit)) for unit in unit_of.values()}
    return [units[first] for first in sorted(units)]


def _group_notes(groups: PatientGroups | None) -> tuple[str, ...]:
    if groups is None:
        return ()
    shared = groups.shared
    cases = sum(map(len, shared.values()))
    examples = "; ".join(f"{listed(ids)} are {patient}" for patient, ids in list(shared.items())[:_SHOWN])
    return (
        f"{'1 patient has' if len(shared) == 1 else f'{len(shared)} patients have'} several cases ({cases} of "
        f"{len(groups.patient_of)}), told by {groups.rule}: "
        f"{examples}{'; …' if len(shared) > _SHOWN else ''}. No patient is in both parts of a fold (--no-groups "
        "takes every case by itself)",
        *groups.notes,
    )


def _image_notes(images: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if not images:
        return ()
    examples = "; ".join(listed(ids) for ids in images[:_SHOWN])
    return (
        f"WARNING: {sum(map(len, images))} cases share their image with another one, voxel for voxel: {examples}"
        f"{'; …' if len(images) > _SHOWN else ''}. They stay in one part of every fold",
    )


def _parted_notes(
    folds: Sequence[Fold], groups: PatientGroups | None, images: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Warnings where folds that are not ours to change train and validate on the same thing."""
    notes = []
    shared: Mapping[str, tuple[str, ...]] = {} if groups is None else groups.shared
    same, patients = parted(images, folds), parted(shared.values(), folds)
    if same:
        examples = "; ".join(listed(ids) for ids in same[:_SHOWN])
        notes.append(
            f"WARNING: these splits train and validate on the same image under different names, so scores will be "
            f"better than new images would give: {examples}{'; …' if len(same) > _SHOWN else ''}"
        )
    if patients and groups is not None:
        examples = "; ".join(listed(ids) for ids in patients[:_SHOWN])
        notes.append(
            f"WARNING: these splits train and validate on cases of the same patient ({len(patients)} patients, told by "
            f"{groups.rule}): {examples}"
        )
    return tuple(notes)
