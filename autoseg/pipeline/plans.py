"""The plans of a work folder: read and checked, explained, and kept from being overwritten."""

from __future__ import annotations

from pathlib import Path

from autoseg.errors import PlanError, RecordError, UsageError, WorkspaceError
from autoseg.files import read_record, text_hash
from autoseg.planning.validity import require_possible
from autoseg.plugins import load_plugins
from autoseg.records import Dataset, Plan, Reason
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: The work folder of commands without --work.
DEFAULT_WORK = Path("autoseg-work")


def read_plan(work: Workspace, name: str = DEFAULT_PLAN) -> Plan:
    """The plan of that name.

    The modules that it names are imported: it is the user's own. Raises WorkspaceError where there is none, PlanError
    naming file and field where it is broken, of a newer version, or edited into something impossible.
    """
    path = work.require_plan(name)
    try:
        plan = read_record(path, Plan)
    except RecordError as error:
        raise PlanError(error.what, where=error.where, remedy=error.remedy) from None
    load_plugins(plan.plugins)
    require_possible(plan, path)
    return plan


def read_dataset(work: Workspace) -> Dataset:
    """The dataset that was planned for. Raises WorkspaceError where the plan was made from a fingerprint alone."""
    if not work.dataset.exists() and work.fingerprint.exists():
        raise WorkspaceError(
            "this work folder was planned from a fingerprint alone: it knows no images",
            where=work.root,
            remedy=f"Plan with the images first: {dataset_command(work)}",
        )
    return read_record(work.dataset, Dataset)


def dataset_command(work: Workspace) -> str:
    """The command that plans with images in this work folder."""
    return f"autoseg plan DATASET{run_options(work, DEFAULT_PLAN)}"


def run_options(work: Workspace, plan: str) -> str:
    """The options, with a space before, that name plan and work folder in a command; nothing for the default ones."""
    named = "" if plan == DEFAULT_PLAN else f" --plan {plan}"
    return named if work.root == DEFAULT_WORK else f"{named} --work {quoted(work.root)}"


def quoted(path: Path) -> str:
    """The path as it is typed in a command."""
    return f'"{path}"' if " " in str(path) else str(path)


def explain(work: Workspace, name: str, field: str) -> tuple[Reason, ...]:
    """The reasons of a plan for a field: "3d_fullres.patch_size", or "patch_size" for that of every configuration.

    Raises UsageError, with the known fields, where the plan has no such reason.
    """
    reasons = read_plan(work, name).reasons
    wanted = field.strip().replace(" ", "_")
    found = tuple(reason for reason in reasons if reason.field == wanted or reason.field.endswith(f".{wanted}"))
    if not found:
        known = dict.fromkeys(reason.field.rpartition(".")[2] for reason in reasons)
        raise UsageError(
            f"the plan has no reason for {field!r}",
            where=work.plan(name),
            remedy=f"It explains: {', '.join(known)}; of one configuration with its name before, as in "
            f"{_example(reasons)}.",
        )
    return found


def _example(reasons: tuple[Reason, ...]) -> str:
    return next((reason.field for reason in reasons if reason.field.endswith(".patch_size")), "3d_fullres.patch_size")


# ---------------------------------------------------------------------------------------------------------- edits


def signed(plan: Plan) -> Plan:
    """The plan with the digest by which an edit is noticed."""
    return plan.model_copy(update={"digest": plan_digest(plan)})


def decided(plan: Plan) -> Plan:
    """The plan without the words that explain it."""
    return plan.model_copy(update={"digest": "", "reasons": ()})


def plan_digest(plan: Plan) -> str:
    """Hash of what a plan decides: all but the words that explain it."""
    return text_hash(decided(plan).model_dump_json(), length=16)
