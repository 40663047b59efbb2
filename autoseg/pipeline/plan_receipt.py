"""The receipt of a plan: what was measured, and what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from autoseg.files import write_record
from autoseg.pipeline.plans import plan_digest
from autoseg.pipeline.receipts import data_hash, short_hash, versions
from autoseg.records import Case, Plan, Receipt
from autoseg.workspace import Workspace

#: Option that is set where a plan found folds that a person had made, and kept them.
FOLDS_BY_HAND = "folds_by_hand"


def write_plan_receipt(
    work: Workspace,
    made: Plan,
    options: Mapping[str, JsonValue],
    nnunet_plans: Path | None,
    cases: Sequence[Case] | None = None,
) -> None:
    """Write the receipt of a plan that lies in the work folder; without `cases` it was made from a fingerprint."""
    inputs = {} if cases is None else {"data": data_hash(cases)}
    if nnunet_plans is not None:
        inputs["nnU-Net's plans"] = short_hash(nnunet_plans)
    receipt = Receipt(
        stage="plan",
        versions=versions(),
        device=made.device,
        options=dict(options),
        inputs=inputs,
        results=plan_results(work, made),
    )
    write_record(work.receipt(made.name), receipt)


def plan_results(work: Workspace, made: Plan) -> dict[str, str]:
    """Hashes of what planning wrote, as it is now."""
    found = {"fingerprint": short_hash(work.fingerprint), "plan": plan_digest(made)}
    return found | ({"folds": short_hash(work.splits)} if work.splits.exists() else {})
