"""The plan as a page: what will be trained, drawn to scale, what it costs, and each number with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.planning.costs import ConfigurationCost, busy_note
from autoseg.planning.step import step_bytes
from autoseg.progress import duration
from autoseg.records import Configuration, Plan, Probe, StepProbe
from autoseg.report.network_drawing import network, patch_in_image, stage_shapes
from autoseg.report.page import (
    NOTHING,
    Block,
    Cell,
    Facts,
    Figure,
    Names,
    Page,
    Section,
    Table,
    Words,
    joined,
    number,
    sections,
    table,
    word,
)
from autoseg.words import counted

#: Bytes.
_GB = 1e9


def plan_page(plan: Plan, probe: Probe | None, costs: Sequence[ConfigurationCost], names: Names) -> Page:
    """The page of a plan; works from the plan alone.

    Args:
        plan: what is shown.
        probe: what was measured when it was made.
        costs: what each configuration takes (`planning.costs.preview`); empty without a fingerprint.
        names: how to call the cases.
    """
    entries = plan.configurations.values()
    steps = {} if probe is None else {step.configuration: step for step in probe.steps}
    title = names.words(f"Plan of {plan.dataset}", "Plan")
    device = plan.device if probe is None else f"{probe.device}, {probe.precision}"
    return Page(
        kind="plan",
        title=title if plan.name == "default" else f"{title}: {names.words(plan.name, 'named')}",
        subtitle=f"Preset {plan.preset}, for {device}. {counted(len(plan.labels.classes), 'label')}, "
        f"{counted(len(plan.channels), 'channel')} ({', '.join(plan.channels)}).",
        sections=sections(
            Section("At a glance", (_overview(plan), *_memory(plan, probe, steps))),
            *(Section(entry.name, _configuration(entry)) for entry in entries),
            Section("What it will cost", _costs(plan, costs, busy_note(probe))),
            _reasons(plan, names),
            Section("Training settings", (_settings(plan),)),
        ),
    )


def _overview(plan: Plan) -> Table:
    """A column per configuration."""
    entries = list(plan.configurations.values())
    rows = {
        "network": [entry.network for entry in entries],
        "patch (voxels)": [joined(entry.patch_size) for entry in entries],
        "share of the median image in a patch": [f"{_share_of_image(entry):.0%}" for entry in entries],
        "median image (voxels)": [joined(entry.median_shape) for entry in entries],
        "spacing (mm)": [joined(entry.spacing, 2) for entry in entries],
        "batch": [str(entry.batch_size) for entry in entries],
        "stages": [str(len(entry.strides)) for entry in entries],
        "epochs": [str(entry.epochs) for entry in entries],
        "steps per epoch": [str(entry.steps_per_epoch) for entry in entries],
    }
    cells = [(word(name), *map(word, values)) for name, values in rows.items()]
    columns = ("", *(entry.name for entry in entries))
    return table(columns, cells, "Sizes are Z × Y × X; of 2D configurations Y × X.")


def _share_of_image(entry: Configuration) -> float:
    """Share of the median image that a patch sees."""
    share = 1.0
    for size, whole in zip(entry.patch_size, entry.median_shape[-len(entry.patch_size) :], strict=True):
        share *= min(1.0, size / whole)
    return share


def _memory(plan: Plan, probe: Probe | None, steps: dict[str, StepProbe]) -> tuple[Block, ...]:
    half = probe is not None and probe.precision != "float32"
    rows = []
    for entry in plan.configurations.values():
        estimated = step_bytes(entry, len(plan.channels), plan.labels, plan.training, half_precision=half)
        step = steps.get(entry.name)
        rows.append(
            (
                word(entry.name),
                number(estimated / _GB, 2),
                number(None if step is None or step.peak_bytes is None else step.peak_bytes / _GB, 2),
                number(None if step is None else step.limit_bytes / _GB, 2),
                number(None if step is None else step.seconds_per_step, 3),
                _fits(step),
            )
        )
    columns = ("configuration", "estimated (GB)", "measured (GB)", "limit (GB)", "seconds per step", "fits")
    return (table(columns, rows, "Memory of one training step, estimated in closed form and measured by making one."),)


def _fits(step: StepProbe | None) -> Cell:
    if step is None:
        return word("not tried", "doubt")
    return word("yes", "good") if step.fits else word(f"no: {step.why}", "bad")


def _configuration(entry: Configuration) -> tuple[Block, ...]:
    stages = [
        (
            number(index + 1, 0),
            word(joined(shape)),
            word(joined(stride)),
            word(joined(kernel)),
            number(features, 0),
            number(blocks, 0),
            number(entry.blocks_per_stage_decoder[index] if index < len(entry.blocks_per_stage_decoder) else None, 0),
        )
        for index, (shape, stride, kernel, features, blocks) in enumerate(
            zip(
                stage_shapes(entry),
                entry.strides,
                entry.kernel_sizes,
                entry.features_per_stage,
                entry.blocks_per_stage,
                strict=True,
            )
        )
    ]
    columns = ("stage", "feature maps", "stride", "kernel", "features", "blocks, encoder", "blocks, decoder")
    cascade = () if entry.previous_stage is None else (Words(f"It also sees what {entry.previous_stage} found."),)
    return (
        *cascade,
        Figure(
            network(entry),
            "To scale: a box is as tall as the longest edge of its feature maps and as wide as their number (written "
            "below it). Blue: encoder; orange: the deepest stage; green: decoder; dashed: skip connections.",
        ),
        Figure(
            patch_in_image(entry),
            f"The patch (orange, {joined(entry.patch_size)} voxels) inside the median image "
            f"({joined(entry.median_shape)} voxels), in millimetres.",
        ),
        table(columns, stages),
    )


def _costs(plan: Plan, costs: Sequence[ConfigurationCost], busy: str) -> tuple[Block, ...]:
    if not costs:
        return ()
    rows = [
        (
            word(cost.configuration),
            number(cost.seconds_per_epoch, 1),
            word(NOTHING) if cost.hours is None else Cell(duration(cost.hours * 3600), cost.hours),
            number(cost.disk_bytes / 1e6, 0 if cost.disk_bytes >= 1e7 else 1),
            number(None if cost.peak_bytes is None else cost.peak_bytes / _GB, 2),
        )
        for cost in costs
    ]
    columns = ("configuration", "seconds per epoch", "one training", "prepared cases (MB)", "main memory (GB)")
    lead = "Times follow from the steps that were tried; preparing and scoring come on top."
    budget = plan.training.budget_seconds
    facts = () if budget is None else (Facts((("budget", duration(budget)),)),)
    doubts = (Words(busy, "doubt"),) if busy else ()
    return (*facts, table(columns, rows, lead), *doubts)


def _reasons(plan: Plan, names: Names) -> Section | None:
    if not plan.reasons:
        return None
    if names.anonymous:
        rows = [(word(reason.field), word(reason.value)) for reason in plan.reasons if _tells_no_name(reason.value)]
        return Section("Each number", (table(("field", "value"), rows),), lead="Reasons name cases, and are left out.")
    rows4 = [
        (word(reason.field), word(reason.value), word(reason.because), word(reason.instead)) for reason in plan.reasons
    ]
    return Section(
        "Each number with its reason",
        (table(("field", "value", "because", "instead of"), rows4),),
        lead="`autoseg plan --explain FIELD` tells the same in the terminal.",
    )


def _tells_no_name(value: str) -> bool:
    return not any(letter in value for letter in "/\\:")


def _settings(plan: Plan) -> Table:
    settings = plan.training.model_dump(mode="json", exclude={"plugins", "initial"})
    return table(
        ("setting", "value"),
        [(word(name), word(NOTHING if value is None else value)) for name, value in settings.items()],
    )
