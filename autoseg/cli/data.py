"""From a dataset to prepared cases: check, plan, prepare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, tables
from autoseg.cli.app import DONE, outcome
from autoseg.errors import UsageError
from autoseg.options import (
    DEFAULT_WORK,
    DatasetFolder,
    Device,
    Explain,
    Folds,
    FromFingerprint,
    MemoryGb,
    Network,
    NewPlanName,
    NnunetPlans,
    NoGroups,
    OptionalDataset,
    PlanName,
    PlanValues,
    Preset,
    Probe,
    SplitsFile,
    Stratify,
    Use,
    Work,
    Workers,
    positive,
    split_settings,
    work_option,
)


def check(
    dataset: DatasetFolder,
    work: Work = DEFAULT_WORK,
    json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write a copy of the dataset, corrected where that is safe."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FOLDER", help="Draw the costliest findings into a new folder."),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            "--splits",
            metavar="FILE",
            help="Look for patients in both parts of a fold (default: splits_final.json in the dataset).",
        ),
    ] = None,
    workers: Workers = None,
    use: Use = None,
) -> int:
    """Read a dataset and list everything that is wrong with it.

    Every file is read once; findings of one kind are told together, the costliest first, with the files, the cause
    and what to do. The dataset is never changed: --fix writes a corrected copy into a new folder, and tells of every
    finding what was done. The work folder gets a report to look at. Exit code 2: some cases have errors; 1: no case
    can be used.

    Examples: autoseg check my-dataset; autoseg check my-dataset --fix corrected --pictures pictures
    """
    from autoseg.pipeline.check import check as run
    from autoseg.plugins import load_plugins

    load_plugins(use or ())
    progress = console.RichProgress()
    report = run(dataset, splits=splits, fix=fix, pictures=pictures, workers=workers, progress=progress)
    from autoseg.pipeline.pages import check_report, left
    from autoseg.workspace import Workspace

    left(lambda: check_report(Workspace(work), report.dataset, report.fingerprint, report.problems), progress)
    if json:
        from autoseg.pipeline.check_record import check_record

        console.say_json(check_record(report))
    else:
        tables.show_check(console.results_console(), report)
    return outcome([problem for problem in report.problems if problem.severity == "error"], report.cases_ok)


def plan(
    dataset: OptionalDataset = None,
    work: Work = DEFAULT_WORK,
    preset: Preset = "auto",
    name: NewPlanName = "default",
    device: Device = "auto",
    memory_gb: MemoryGb = None,
    network: Network = None,
    setting: PlanValues = None,
    probe: Probe = True,
    explain: Explain = None,
    from_fingerprint: FromFingerprint = None,
    nnunet_plans: NnunetPlans = None,
    folds: Folds = None,
    stratify: Stratify = False,
    no_groups: NoGroups = False,
    splits: SplitsFile = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Plan with the good cases when others have errors.")
    ] = False,
    trust_voxels: Annotated[
        bool,
        typer.Option(
            "--trust-voxels",
            help="Take labels voxel by voxel, where their headers put them elsewhere than their image.",
        ),
    ] = False,
    workers: Workers = None,
    use: Use = None,
) -> int:
    """Measure a dataset and decide how to train on it.

    Checks the dataset, measures spacings, shapes and intensities, and derives patch size, network, batch and
    training length; tries one training step, and tells what the training will cost. Every number is printed with its
    reason. The work folder gets fingerprint.json (what was measured), splits.json (the folds), plan.json, and
    probe.json (what the step took).

    Examples: autoseg plan my-dataset --work my-work; autoseg plan --explain patch_size
    """
    require_at_most_one({"DATASET": dataset, "--from-fingerprint": from_fingerprint, "--explain": explain})
    from autoseg.workspace import Workspace

    space = Workspace(work)
    if explain is not None:
        from autoseg.pipeline.plans import explain as reasons_for

        tables.show_reasons(console.results_console(), reasons_for(space, name, explain))
        return DONE
    from dataclasses import replace

    from autoseg.pipeline.pages import dataset_report, left, plan_report
    from autoseg.planning.overrides import parse_overrides

    asked = [*split_settings(setting or ()), *([] if network is None else [("network", network)])]
    if sum(value_name == "network" for value_name, _ in asked) > 1:
        raise UsageError("--network and --set network=… say the same", remedy="Give one of them.")
    overrides = replace(parse_overrides(asked), memory_gb=positive(memory_gb, "--memory-gb"))
    progress = console.RichProgress()
    if from_fingerprint is not None:
        from autoseg.pipeline.plan import plan_from_fingerprint

        report = plan_from_fingerprint(
            from_fingerprint,
            space,
            preset=preset,
            name=name,
            device=device,
            overrides=overrides,
            nnunet_plans=nnunet_plans,
            use=tuple(use or ()),
            progress=progress,
        )
        left(lambda: plan_report(space, name), progress)
        tables.show_plan(console.results_console(), report, f"autoseg plan DATASET{work_option(work)}")
        return DONE
    if dataset is None:
        raise UsageError("there is nothing to plan from", remedy="Name the dataset's folder: autoseg plan DATASET.")
    from autoseg.pipeline.plan import plan as run
    from autoseg.pipeline.splits import SplitOptions

    report = run(
        dataset,
        space,
        preset=preset,
        name=name,
        device=device,
        overrides=overrides,
        nnunet_plans=nnunet_plans,
        probe=probe,
        splits=SplitOptions(folds=folds, stratify=stratify, groups=not no_groups, splits=splits),
        skip_bad=skip_bad,
        trust_voxels=trust_voxels,
        use=tuple(use or ()),
        workers=workers,
        progress=progress,
    )
    left(lambda: plan_report(space, name), progress)
    left(lambda: dataset_report(space), progress)
    named = "" if name == "default" else f" --plan {name}"
    tables.show_plan(console.results_console(), report, f"autoseg train --fold 0{named}{work_option(work)}")
    return outcome(report.left_out, len(report.fingerprint.cases))


def require_at_most_one(sources: Mapping[str, object]) -> None:
    """Refuse more than one thing to plan from, or to tell of. Raises UsageError."""
    named = [word for word, value in sources.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} exclude each other", remedy="Give one of them.")


def prepare(
    configuration: Annotated[
        list[str] | None,
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="Only this one, such as 2d or 3d_fullres; may be given several times.",
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    plan: PlanName = "default",
    workers: Workers = None,
) -> int:
    """Bring all cases into the form that the network reads.

    Orients, crops, normalizes and resamples the images as the plan says. Cases that are ready are left alone. You
    need not call it: train does the same for what is missing.

    Example: autoseg prepare --configuration 3d_fullres
    """
    from autoseg.pipeline.prepare import prepare as run
    from autoseg.workspace import Workspace

    chosen = tuple(configuration or ())
    report = run(Workspace(work), plan=plan, configurations=chosen, workers=workers, progress=console.RichProgress())
    tables.show_prepare(console.results_console(), report)
    return outcome(report.failures, report.prepared + report.reused)
