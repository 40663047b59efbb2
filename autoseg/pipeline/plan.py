"""`plan`: check, measure, plan, try one step, and tell what it will cost."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import JsonValue

from autoseg.dataset.layouts import open_dataset
from autoseg.errors import UsageError
from autoseg.files import write_record
from autoseg.hardware import device_budget
from autoseg.pipeline.fingerprints import read_fingerprint, read_json_object
from autoseg.pipeline.fitting import fitting_plan
from autoseg.pipeline.kept import (
    DEFAULT_SPLITS,
    keep_or_write_splits,
    require_free_name,
    require_replaceable,
    require_same_dataset,
    require_same_fingerprint,
)
from autoseg.pipeline.measured import measured_dataset, with_trusted_voxels
from autoseg.pipeline.plan_receipt import FOLDS_BY_HAND, write_plan_receipt
from autoseg.pipeline.plans import signed
from autoseg.pipeline.probe import probed
from autoseg.pipeline.reports import PlanReport
from autoseg.pipeline.splits import SplitOptions
from autoseg.plain_names import require_plain_name
from autoseg.planning.costs import preview
from autoseg.planning.evidence import normalization_doubts
from autoseg.planning.overrides import Overrides
from autoseg.planning.plan_doubts import plan_doubts
from autoseg.planning.planner import NONE_GIVEN, make_plan
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import Findings, Fingerprint, Plan, Probe
from autoseg.workspace import DEFAULT_PLAN, Workspace


@dataclass(frozen=True)
class PlanRequest:
    """What is asked of a plan, beside the data."""

    preset: str = "auto"
    name: str = DEFAULT_PLAN
    device: str = "auto"
    overrides: Overrides = NONE_GIVEN
    nnunet_plans: Path | None = None  # an nnU-Net plans file to take instead of planning
    probe: bool = True  # whether to try one real step of each configuration
    plugins: tuple[str, ...] = ()  # modules to import, and to name in the plan

    def told(self) -> dict[str, JsonValue]:
        """The options as a receipt tells them; of files it tells hashes instead."""
        overrides = json.loads(json.dumps(asdict(self.overrides)))
        return {
            "preset": self.preset,
            "device": self.device,
            "overrides": overrides,
            "probe": self.probe,
            "plugins": list(self.plugins),
        }


def plan(
    dataset: Path,
    work: Workspace,
    *,
    preset: str = "auto",
    name: str = DEFAULT_PLAN,
    device: str = "auto",
    overrides: Overrides = NONE_GIVEN,
    nnunet_plans: Path | None = None,
    probe: bool = True,
    splits: SplitOptions = DEFAULT_SPLITS,
    skip_bad: bool = False,
    trust_voxels: bool = False,
    use: tuple[str, ...] = (),
    workers: int | None = None,
    progress: Progress,
) -> PlanReport:
    """Check the dataset, measure it on all cores, plan, and write what was found into the work folder.

    With `trust_voxels` labels lie on the voxels of their image, wherever their headers put them. Raises DatasetError
    for a dataset that cannot be used, PlanError where no plan fits or one that is kept would be replaced,
    WorkspaceError where the work folder belongs to another dataset or to other folds.
    """
    load_plugins(use)
    request = PlanRequest(preset, name, device, overrides, nnunet_plans, probe, use)
    require_possible_request(request)
    began = time.monotonic()
    found = open_dataset(dataset)
    require_same_dataset(work, found)
    require_free_name(work, found, name)
    for note in found.notes:
        progress.say(note)
    if trust_voxels:
        found = with_trusted_voxels(found)
    measured = measured_dataset(found, work.placement, skip_bad, workers, progress)
    seconds = {"check and measure": time.monotonic() - began}
    made, probe_record = made_plan(measured.fingerprint, request, seconds, progress)
    require_replaceable(work, made)
    kept = keep_or_write_splits(work, measured, splits)
    write_record(work.dataset, measured.usable)
    problems = (*measured.problems, *normalization_doubts(measured.fingerprint))
    write_record(work.findings, Findings(problems=problems))
    path = write_plan(work, measured.fingerprint, made, probe_record)
    data: dict[str, JsonValue] = {
        "cases": len(found.cases),
        "left_out": len(measured.left_out),
        "trust_voxels": trust_voxels,
        "splits": splits.told(),
    }
    if kept.by_hand:
        data[FOLDS_BY_HAND] = True
    write_plan_receipt(work, made, request.told() | data, request.nnunet_plans, measured.usable.cases)
    return PlanReport(
        dataset=measured.usable,
        problems=(*problems, *plan_doubts(made, measured.fingerprint)),  # of this plan, not of the data
        fingerprint=measured.fingerprint,
        plan=made,
        path=path,
        left_out=measured.left_out,
        seconds=seconds,
        probe=probe_record,
        costs=preview(made, measured.fingerprint, probe_record),
        notes=kept.notes,
    )


def plan_from_fingerprint(
    file: Path,
    work: Workspace,
    *,
    preset: str = "auto",
    name: str = DEFAULT_PLAN,
    device: str = "auto",
    overrides: Overrides = NONE_GIVEN,
    nnunet_plans: Path | None = None,
    use: tuple[str, ...] = (),
    progress: Progress,
) -> PlanReport:
    """Plan without images. No step is tried: it is arithmetic, often for a machine other than this one.

    Args:
        file: a record `{"dataset_json": …, "fingerprint": …}` with nnU-Net's own files in it, or our fingerprint.json.
        work: folder for fingerprint.json and plan.json.
        preset, name, device, overrides, nnunet_plans, use: as for `plan`.
        progress: told nothing lasting; planning takes milliseconds.
    """
    load_plugins(use)
    request = PlanRequest(preset, name, device, overrides, nnunet_plans, probe=False, plugins=use)
    require_possible_request(request)
    seconds: dict[str, float] = {}
    fingerprint = read_fingerprint(file)
    require_same_fingerprint(work, fingerprint, name)
    made, _ = made_plan(fingerprint, request, seconds, progress)
    require_replaceable(work, made)
    path = write_plan(work, fingerprint, made, None)
    write_plan_receipt(work, made, request.told(), request.nnunet_plans)
    return PlanReport(
        dataset=None,
        problems=(*normalization_doubts(fingerprint), *plan_doubts(made, fingerprint)),
        fingerprint=fingerprint,
        plan=made,
        path=path,
        left_out=(),
        seconds=seconds,
        costs=preview(made, fingerprint, None),
    )


# ------------------------------------------------------------------------------------------------------- the plan


def made_plan(
    fingerprint: Fingerprint, request: PlanRequest, seconds: dict[str, float], progress: Progress
) -> tuple[Plan, Probe | None]:
    """The plan, signed, and what was measured; `seconds` gets the time of each stage."""
    budget = device_budget(request.device)
    began = time.monotonic()

    def make(overrides: Overrides) -> Plan:
        if request.nnunet_plans is not None:
            planned = plan_from_file(request.nnunet_plans, fingerprint, request.name)
        else:
            planned = make_plan(fingerprint, request.preset, budget, name=request.name, overrides=overrides)
        return planned.model_copy(update={"plugins": request.plugins})

    made, probe = make(request.overrides), None
    seconds["plan"] = time.monotonic() - began
    if request.probe:
        began = time.monotonic()
        partly = any(case.annotated is not None for case in fingerprint.cases)
        if request.nnunet_plans is not None:
            probe = probed(made, request.device, progress, partly_annotated=partly)
            _warn_of_misfits(probe, progress)
        else:
            made, probe = fitting_plan(make, request.overrides, request.device, progress, partly_annotated=partly)
        seconds["try a step"] = time.monotonic() - began
    return signed(made), probe


def plan_from_file(file: Path, fingerprint: Fingerprint, name: str) -> Plan:
    """The plan in an nnU-Net plans file, for the dataset of the fingerprint."""
    from autoseg.interop.nnunet_plans import plan_from_nnunet

    return plan_from_nnunet(read_json_object(file), fingerprint, name, source=file.name)


def require_possible_request(request: PlanRequest) -> None:
    """Refuse a name that no file can have, and planning options beside a plans file, which leaves nothing to plan."""
    require_plain_name(request.name, "plan")
    if request.nnunet_plans is not None and (request.overrides != NONE_GIVEN or request.preset != "auto"):
        raise UsageError(
            "--nnunet-plans leaves nothing to plan: --preset, --set and --memory-gb would say otherwise",
            remedy="Change the values in the plans file, or in plan.json afterwards.",
        )


def _warn_of_misfits(probe: Probe, progress: Progress) -> None:
    for step in probe.steps:
        if not step.fits:
            progress.warn(f"{step.configuration} does not fit this device: {step.why}")


def write_plan(work: Workspace, fingerprint: Fingerprint, made: Plan, probe: Probe | None) -> Path:
    """Write fingerprint, plan and measurements; the path of the plan."""
    write_record(work.fingerprint, fingerprint)
    path = work.plan(made.name)
    write_record(path, made)
    if probe is not None:
        write_record(work.probe(made.name), probe)
    return path
