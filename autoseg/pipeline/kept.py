"""What a work folder keeps: its dataset, its folds, and plans that networks were trained from or a person edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.dataset.folds import read_splits, splits_text, write_splits
from autoseg.errors import PlanError, WorkspaceError
from autoseg.files import read_record, text_hash
from autoseg.pipeline.dataset_now import other_names
from autoseg.pipeline.measured import MeasuredDataset
from autoseg.pipeline.plan_receipt import FOLDS_BY_HAND
from autoseg.pipeline.plans import decided, plan_digest
from autoseg.pipeline.receipts import DIGITS, read_receipt, short_hash
from autoseg.pipeline.splits import SplitOptions, planned_splits
from autoseg.records import Dataset, Fingerprint, Fold, Plan
from autoseg.workspace import Workspace

#: Folds as nnU-Net makes them, unless the data speak against it.
DEFAULT_SPLITS = SplitOptions()


def require_replaceable(work: Workspace, made: Plan) -> None:
    """Refuse to replace a plan from which something was trained, or that a person edited."""
    path = work.plan(made.name)
    if not path.exists():
        return
    before = read_record(path, Plan)
    if decided(before) == decided(made):
        return
    trained = any(run.plan == made.name for run in work.all_runs())
    edited = bool(before.digest) and before.digest != plan_digest(before)
    if trained or edited:
        raise kept_plan(
            work, made.name, "a network was trained from this plan" if trained else "this plan was edited by hand"
        )


def kept_plan(work: Workspace, name: str, why: str) -> PlanError:
    """The error where a plan is not replaced."""
    return PlanError(
        why,
        where=work.plan(name),
        remedy="It is kept. Give the new plan a name, with --name NAME here and --plan NAME in `autoseg train`, or "
        "begin afresh in another work folder, with --work FOLDER.",
    )


def require_same_dataset(work: Workspace, dataset: Dataset) -> None:
    """Refuse a work folder that belongs to another dataset."""
    if not work.dataset.exists():
        return
    before = read_record(work.dataset, Dataset)
    if before.root != dataset.root:
        raise WorkspaceError(
            f"this work folder belongs to another dataset ({before.root}) than {dataset.root}",
            where=work.root,
            remedy="Name another one with --work.",
        )


def require_free_name(work: Workspace, dataset: Dataset, name: str) -> None:
    """Refuse, before anything is measured, what would replace a plan that networks were trained from.

    Raises PlanError where channels or labels are others than those of that plan, which then cannot come out the same.
    """
    if work.plan(name).exists() and any(run.plan == name for run in work.all_runs()):
        others = other_names(read_record(work.plan(name), Plan), dataset)
        if others:
            raise kept_plan(work, name, f"a network was trained from this plan, whose {others}")


def require_same_fingerprint(work: Workspace, fingerprint: Fingerprint, name: str) -> None:
    """Refuse a work folder with a dataset, or with other plans that were made from another fingerprint."""
    if work.dataset.exists():
        raise WorkspaceError(
            "this work folder belongs to a dataset with images",
            where=work.root,
            remedy="Name another one with --work.",
        )
    others = [other for other in work.plan_names() if other != name]
    if others and work.fingerprint.exists() and read_record(work.fingerprint, Fingerprint) != fingerprint:
        raise WorkspaceError(
            f"this work folder has plans made from another fingerprint ({', '.join(others)})",
            where=work.root,
            remedy="Name another one with --work.",
        )


@dataclass(frozen=True)
class KeptSplits:
    """The folds that lie in a work folder once it is planned."""

    by_hand: bool  # no plan wrote them: a person made or edited them
    notes: tuple[str, ...]  # what is to be told of them


def keep_or_write_splits(work: Workspace, measured: MeasuredDataset, asked: SplitOptions) -> KeptSplits:
    """Write the folds; those on disk are kept while the cases are the same and no others are asked for.

    Raises WorkspaceError where networks were trained with the folds on disk, or a person made them, and others would
    take their place.
    """
    on_disk = read_splits(work.splits) if work.splits.exists() else None
    if on_disk is None:
        planned = planned_splits(measured.usable, measured.fingerprint, asked, measured.left_out)
        write_splits(work.splits, planned.folds)
        return KeptSplits(by_hand=False, notes=planned.notes)
    by_hand = _made_by_hand(work, on_disk)
    split = {case for fold in on_disk for case in (*fold.train, *fold.val)}
    same_cases = split == {case.id for case in measured.usable.cases}
    if same_cases and asked == DEFAULT_SPLITS:
        return KeptSplits(by_hand, (f"{work.splits.name} is made by hand, and kept",) if by_hand else ())
    planned = planned_splits(measured.usable, measured.fingerprint, asked, measured.left_out)
    if on_disk == planned.folds:
        return KeptSplits(by_hand=False, notes=planned.notes)
    what = "the folds would change" if same_cases else "the dataset has other cases than when its folds were made"
    if work.all_runs():
        raise WorkspaceError(
            what,
            where=work.splits,
            remedy="Networks were trained with these folds: use a new work folder (--work), so that no held-out case "
            "becomes a training case unseen.",
        )
    if by_hand:
        raise WorkspaceError(
            f"{what}, and these are made by hand",
            where=work.splits,
            remedy="They are kept: rename the file, and others are made. To go on with folds of your own, give a list "
            "of all cases with --splits FILE.",
        )
    write_splits(work.splits, planned.folds)
    return KeptSplits(by_hand=False, notes=planned.notes)


def _made_by_hand(work: Workspace, folds: Sequence[Fold]) -> bool:
    """Whether the folds on disk are none that a plan of this work folder wrote, by the plans' receipts."""
    receipts = [read_receipt(work.receipt(name)) for name in work.plan_names()]
    written = {
        receipt.results.get("folds")
        for receipt in receipts
        if receipt is not None and not receipt.options.get(FOLDS_BY_HAND)
    }
    # the same folds in other bytes, such as other spaces, are the same
    return written.isdisjoint((short_hash(work.splits), text_hash(splits_text(folds), DIGITS)))
